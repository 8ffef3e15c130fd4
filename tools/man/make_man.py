#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make_man.py TEMPLATE PAGE [PROGRAM]: a manual page in mdoc. Lines of the template that begin with
@commands or @options SUBCOMMAND are replaced by what the program's --help lists, so that a page
cannot tell of an option that there is not, or leave one out."""
import re
import subprocess
import sys


def help_of(program, *words):
    return subprocess.run([program, *words, "--help"], capture_output=True, text=True,
                          check=True).stdout


def section(text, title):
    """The entries (words, explanation) under a title of --help; what is explained on the next line too."""
    entries, inside = [], False
    for line in text.splitlines():
        if not line.startswith(" ") and line.strip():
            inside = line.startswith(title)
        elif inside and re.match(r"  \S", line):
            words, _, meaning = re.sub(r":INT in \[(\S+) - (\S+)\]", r":\1..\2 ", line[2:]).partition("  ")
            entries.append([words.strip(), meaning.strip()])
        elif inside and line.strip():
            entries[-1][1] += (" " if entries[-1][1] else "") + line.strip()
    return entries


def escaped(text):
    return re.sub(r"^([.'])", r"\\&\1", text.replace("\\", "\\e")).replace("-", "\\-")


def listed(entries):
    yield ".Bl -tag -width Ds"
    for words, meaning in entries:
        yield ".It " + r"\&" + escaped(words)
        yield escaped(meaning) if meaning else r"\&"
    yield ".El"


def expanded(template, program):
    for line in template.read().splitlines():
        words = line.split()
        if words[:1] == ["@commands"]:
            commands = section(help_of(program), "Subcommands:")
            yield from listed(commands)
        elif words[:1] == ["@options"]:
            found = section(help_of(program, *words[1:]), "Options:")
            yield from listed([option for option in found if not option[0].startswith("-h,")])
        elif words[:1] == ["@codes"]:
            yield from listed(section(help_of(program), "Exit codes:"))
        else:
            yield line


with open(sys.argv[1]) as template, open(sys.argv[2], "w") as page:
    page.write("\n".join(expanded(template, sys.argv[3] if len(sys.argv) > 3 else "")) + "\n")
