#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""libft from Python, by ctypes: no build step.

    protect.py FOLDER [LIBFT.SO]

protects a guest in memory, compares both sides, and moves it to its backup.
"""
import ctypes as c
import select
import sys

OK, ROLE_PRIMARY, ROLE_FENCED = 0, 2, 3


class Struct(c.Structure):
    """A struct of libft.h: its size goes first."""

    def __init__(self, **fields):
        super().__init__(struct_size=c.sizeof(self), **fields)


class Error(Struct):
    _fields_ = [("struct_size", c.c_uint32), ("code", c.c_int32), ("phase", c.c_char * 48),
                ("cause", c.c_char * 512), ("remedy", c.c_char * 256)]


class State(Struct):
    _fields_ = [("struct_size", c.c_uint32), ("role", c.c_int32), ("is_protected", c.c_uint32),
                ("reserved", c.c_uint32), ("generation", c.c_uint64),
                ("epoch_captured", c.c_uint64), ("epoch_acknowledged", c.c_uint64),
                ("epoch_released", c.c_uint64), ("state", c.c_char * 32), ("self", c.c_char * 112),
                ("peer", c.c_char * 112), ("detail", c.c_char * 256)]


FREE = c.CFUNCTYPE(None, c.c_void_p)
DONE = c.CFUNCTYPE(None, c.c_void_p, c.c_int32, c.c_char_p, c.POINTER(Error))


class Completion(Struct):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("user", c.c_void_p),
                ("free", FREE), ("done", DONE)]


class FtError(Exception):
    pass


class Session:
    """One replica. Its methods follow libft.h; a wish that fails raises."""

    kept = {}  # Functions that libft still calls, until their `free`.

    def __init__(self, lib, **options):
        self.lib, self.handle, error = lib, c.c_void_p(), Error()
        chosen = c.c_void_p()
        self.check(lib.ft_options_new(c.byref(chosen), c.byref(error)), error)
        try:
            for name, value in options.items():
                self.check(lib.ft_options_set(chosen, name.encode(), str(value).encode(),
                                              c.byref(error)), error)
            self.check(lib.ft_session_new(chosen, c.byref(self.handle), c.byref(error)), error)
        finally:
            lib.ft_options_free(chosen)

    @staticmethod
    def check(status, error):
        if status < 0:
            raise FtError(f"{error.phase.decode()}: {error.cause.decode()}; "
                          f"{error.remedy.decode()}")

    def wish(self, name, on_done):
        """ft_session_<name>; on_done(status, text) is called inside process()."""
        key = id(on_done)
        done = DONE(lambda _user, status, text, error: on_done(
            status, text.decode() if status >= 0 else error.contents.cause.decode()))
        free = FREE(lambda _user: self.kept.pop(key, None))
        self.kept[key] = (on_done, done, free)
        error = Error()
        self.check(getattr(self.lib, "ft_session_" + name)(
            self.handle, c.byref(Completion(done=done, free=free)), c.byref(error)), error)

    def fileno(self):
        return self.lib.ft_session_poll_fd(self.handle)

    def process(self):
        self.lib.ft_session_process(self.handle, None)

    @property
    def state(self):
        state = State()
        self.lib.ft_session_state(self.handle, c.byref(state), None)
        return state

    def free(self):
        self.lib.ft_session_free(self.handle)


def drive(sessions, condition):
    while not condition():
        for session in select.select(sessions, [], [], 0.05)[0]:
            session.process()


def main(folder, library):
    lib = c.CDLL(library)
    lib.ft_version.restype = c.c_char_p
    print("libft", lib.ft_version().decode())
    common = {"name": "example", "arbiter": f"file:{folder}"}
    at_a, at_b = f"unix:{folder}/a.sock", f"unix:{folder}/b.sock"
    a = Session(lib, host="a", guest="memory:mib=8,pages=20", listen=at_a, **common)
    b = Session(lib, host="b", peer=at_a, listen=at_b, **common)
    ended = {}
    told = lambda what: lambda status, text: ended.__setitem__(what, (status, text))

    a.wish("protect", told("protect"))
    drive([a], lambda: "protect" in ended)
    b.wish("stand_by", told("stand_by"))
    drive([a, b], lambda: a.state.is_protected and b.state.state == b"in_sync")
    a.wish("verify", told("verify"))
    drive([a, b], lambda: "verify" in ended)
    a.wish("switch_over", told("switch_over"))
    drive([a, b], lambda: b.state.role == ROLE_PRIMARY and a.state.role == ROLE_FENCED)
    for what, (status, text) in ended.items():
        print(f"{what}: {'ok' if status == OK else 'failed'} {text}")
    print("the guest is on", b.state.self.decode())
    a.free()
    b.free()
    return 0 if all(status == OK for status, _ in ended.values()) and not Session.kept else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "libft.so.1"))
