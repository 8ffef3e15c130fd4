# SPDX-License-Identifier: LGPL-2.1-or-later
"""keyed.py FOLDER KEY: a pair with a key, so that TLS's module must be found and work."""
import ctypes
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))
import protect  # noqa: E402

folder, key = sys.argv[1:]
lib = ctypes.CDLL(os.environ["LIBRARY"])
common = {"name": "keyed", "arbiter": f"file:{folder}", "key_file": key, "heartbeat": "none"}
a = protect.Session(lib, host="a", guest="memory:mib=4", listen=f"unix:{folder}/a.sock", **common)
b = protect.Session(lib, host="b", peer=f"unix:{folder}/a.sock", **common)
ended = []
a.wish("protect", lambda status, text: ended.append((status, text)))
protect.drive([a], lambda: ended)
assert ended == [(protect.OK, "")], ended
b.wish("stand_by", lambda status, text: ended.append((status, text)))
protect.drive([a, b], lambda: a.state.is_protected and b.state.state == b"in_sync")
size = ctypes.c_uint64()
lib.ft_session_json(b.handle, None, ctypes.c_uint64(0), ctypes.byref(size), None)
text = ctypes.create_string_buffer(size.value + 1)
lib.ft_session_json(b.handle, text, ctypes.c_uint64(size.value + 1), None, None)
assert b"TLS" in text.value, text.value
print("protected by TLS, which its module brought")
a.free()
b.free()
