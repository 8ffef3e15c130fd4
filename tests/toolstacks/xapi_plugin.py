#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""xapi_plugin.py PLUGIN RECORDS PORT: calls the plugin as xapi does (ocaml/xapi/xapi_plugins.ml): one
argument, an XML-RPC call with a session and a struct of strings; the exit code 0; one response, whose
Value is a string or whose ErrorDescription is a list of strings."""
import json
import subprocess
import sys
import time
import xmlrpc.client

plugin, records, port = sys.argv[1:]


def call_raw(argument):
    ran = subprocess.run([plugin] + argument, stdout=subprocess.PIPE, timeout=120)
    assert ran.returncode == 0, ran
    (answer,), method = xmlrpc.client.loads(ran.stdout.decode())
    assert method is None
    assert answer["Status"] in ("Success", "Failure"), answer
    if answer["Status"] == "Failure":
        assert all(isinstance(word, str) for word in answer["ErrorDescription"]), answer
    return answer


def call(function, **args):
    text = xmlrpc.client.dumps(("OpaqueRef:1234", args), function)
    return call_raw([text])


def value(function, **args):
    answer = call(function, **args)
    assert answer["Status"] == "Success", answer
    assert isinstance(answer["Value"], str), answer  # xapi takes nothing else.
    return answer["Value"]


def error(function, **args):
    answer = call(function, **args)
    assert answer["Status"] == "Failure", answer
    return answer["ErrorDescription"]


assert json.loads(value("status")) == []
assert isinstance(json.loads(value("doctor")), (dict, list))
assert error("protect")[0] == "LIBFT_INVALID"
assert error("protect", guest="web", nonsense="1")[0] == "LIBFT_INVALID"
assert error("failover", guest="web")[0] == "LIBFT_NOT_FOUND"
assert error("fly")[0] == "UNKNOWN_XENAPI_PLUGIN_FUNCTION"
assert call_raw(["no XML"])["ErrorDescription"][0] == "LIBFT_NOT_A_CALL"
assert call_raw(["<methodCall/>"])["Status"] == "Failure"

# Of a domain there is none here; a guest in memory is protected just so.
name = "we<&>b"
assert error("protect", guest=name)[0] == "LIBFT_INVALID"  # No name of a guest; and XML stays whole.
print(value("protect", guest="web", spec="memory:mib=4", host="a", arbiter="file:" + records, interval="10",
            listen="tcp:127.0.0.1:" + port, peer="127.0.0.1:1"))
until = time.monotonic() + 60
while True:
    (status,) = json.loads(value("status", guest="web"))
    if status["role"] == "primary" or time.monotonic() > until:
        break
    time.sleep(0.1)
assert status["role"] == "primary" and not status["protected"], status
assert error("failover", guest="web")[0] == "LIBFT_REFUSED"  # It is no backup.
print("status, doctor, protect, failover: as xapi expects")
