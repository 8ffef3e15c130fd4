#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make_man.py LIBFT.H LIBFT.SO FOLDER: section 3 of the manual, out of the header's comments.

A page for each group of functions and each port, `libft(3)` as the overview, and for each function
a symbolic link to its page. What the header says stands there once and nowhere else; units and defaults of
the options come from the library itself.
"""
import ctypes
import os
import re
import sys
import textwrap
import time

# Page: what it is about, and which declarations it has. Each declaration has one page: the first
# whose pattern fits.
PAGES = [
    ("ft_status", "how functions end, and why", r"ft_version|ft_status_name|ft_last_error|ft_status$|ft_error$"),
    ("ft_options", "what can be set, by name and as one struct", r"ft_option.*|ft_settings"),
    ("ft_op", "operations of ports that end later, and their results",
     r"ft_op(_done|_explain|_is_cancelled|_add_.*|_append|_give_.*|_answer)?$|ft_page_run|ft_bytes|ft_answer$|ft_port_flags|ft_trust"),
    ("ft_guest_port", "a virtual machine of yours", r"ft_memory_region|ft_guest_info|ft_guest_port"),
    ("ft_gate_port", "what holds a guest's output", r"ft_gate_.*"),
    ("ft_transport_port", "connections of yours", r"ft_transport_port|ft_dial_port"),
    ("ft_qmp_port", "QMP through your own connection", r"ft_qmp_port"),
    ("ft_standby_port", "what makes a backup's guest", r"ft_standby_port"),
    ("ft_detector_port", "what suspects the peer", r"ft_detector_port|ft_heartbeat_kind"),
    ("ft_arbiter_port", "who decides who owns the guest", r"ft_arbiter_port"),
    ("ft_fence_port", "what silences the loser", r"ft_fence_port"),
    ("ft_sinks", "logs, events, and how wishes end", r"ft_log_.*|ft_event.*|ft_completion"),
    ("ft_session_new", "sessions, and their parts", r"ft_session$|ft_session_(new|free|set_.*)"),
    ("ft_session_protect", "what can be wished of a session",
     r"ft_session_(may_start|protect|stand_by|switch_over|fail_over|unprotect|reprotect|change_strategy|verify|test_failover|hold|let_go|stop|offer_.*)"),
    ("ft_session_guest_event", "what your parts have to tell",
     r"ft_guest_event|ft_session_(guest_event|guest_clock_lag|qmp_event|output_waiting|may_release|heartbeat)"),
    ("ft_session_process", "driving a session: in your loop, or blocking",
     r"ft_until|ft_session_(poll_fd|process|run|interrupt)"),
    ("ft_session_state", "what a session is and did",
     r"ft_role|ft_state$|ft_percentiles|ft_statistics|ft_guest_place|ft_session_(state|statistics|json|guest_place)"),
]
TOKEN = re.compile(
    r"(?P<comment>/\*.*?\*/)|(?P<function>FT_API [^;]*;)|(?P<struct>typedef struct \w+ \{.*?\n\} \w+;)"
    r"|(?P<handle>typedef struct \w+ \w+;)|(?P<enum>enum \w+ \{.*?\};)|(?P<blank>\n\s*\n)", re.S)


def plain(comment):
    """The text of a comment, without its frame."""
    text = re.sub(r"^/\*+ ?|\s*\*/$", "", comment)
    return re.sub(r"\n \* ?", "\n", text).strip()


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^([.'])", r"\\&\1", text)


def name_of(kind, code):
    if kind == "function":
        return re.search(r"(ft_\w+)\(", code).group(1)
    return re.search(r"(?:enum|struct) (\w+)", code).group(1)


def declarations(header):
    """(name, code, comment) of each, and the header's first comment. A comment belongs to what
    follows it without an empty line between; one line after a declaration, to that."""
    body = header[header.index("#ifndef LIBFT_H"):]
    found, above = [], ""
    for token in TOKEN.finditer(body):
        kind, text = token.lastgroup, token.group()
        if kind == "blank":
            above = ""
        elif kind == "comment":
            line = body[body.rfind("\n", 0, token.start()) + 1:token.start()]
            if line.strip() and found:
                name, code, said = found[-1]
                found[-1] = (name, code, (said + "\n" if said else "") + plain(text))
            elif not plain(text).startswith("---"):
                above = plain(text)
        else:
            found.append((name_of(kind, text), text, above))
            above = "" if kind != "function" else above
    return found


def option_table(library):
    class Option(ctypes.Structure):
        _fields_ = [("struct_size", ctypes.c_uint32), ("type", ctypes.c_int32)] + [
            (name, ctypes.c_char_p) for name in ("name", "unit", "initial", "help")] + [
            ("min", ctypes.c_uint64), ("max", ctypes.c_uint64)]
    ft = ctypes.CDLL(library)
    lines = [".SH OPTIONS"]
    for index in range(ft.ft_option_count()):
        option = Option(struct_size=ctypes.sizeof(Option))
        ft.ft_option_describe(index, ctypes.byref(option), None)
        name, unit, initial, text = (getattr(option, field).decode()
                                     for field in ("name", "unit", "initial", "help"))
        detail = ["text", "flag", f"{option.min} to {option.max} {unit}"][option.type]
        lines += [".TP", f".B {escape(name)}",
                  escape(f"{text} ({detail}; default: {initial or 'empty'})")]
    return lines


def heading(title, version):
    day = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    return f'.TH {title.upper()} 3 "{day}" "libft {version}" "libft manual"'


def listing(code, after_text):
    return ([".PP"] if after_text else []) + [".nf", ".ft CR", escape(code), ".ft R", ".fi"]


def prototype(code):
    """In lines of 72, broken between arguments."""
    code = re.sub(r"\s+", " ", re.sub(r"^FT_API ", "", code))
    whole = re.sub(r"(?<![,]) ", "\0", code)
    lines = textwrap.fill(whole, 72, subsequent_indent=" " * 8, break_on_hyphens=False)
    return lines.replace("\0", " ")


def synopsis(members):
    lines = [".SH SYNOPSIS", ".nf", ".B #include <libft.h>", ".fi"]
    for _, code, _ in members:
        if code.startswith("FT_API"):
            lines += listing(prototype(code), True)
    return lines


def description(members):
    """Functions that share a comment are told of together."""
    lines, at = [".SH DESCRIPTION"], 0
    while at < len(members):
        _, code, comment = members[at]
        end = at + 1
        if code.startswith("FT_API"):
            while end < len(members) and members[end][1:] == (members[end][1], comment):
                end += 1
        lines += [".SS " + escape(", ".join(name for name, _, _ in members[at:end]))]
        lines += escape(comment).split("\n")
        if not code.startswith("FT_API"):
            lines += listing(code, comment)
        at = end
    return lines


def page_lines(title, about, members, statuses, version):
    names = [name for name, code, _ in members if code.startswith("FT_API")]
    lines = [heading(title, version), ".SH NAME",
             escape(", ".join(dict.fromkeys([title] + names))) + " \\- " + escape(about)]
    lines += synopsis(members) + description(members)
    if any(code.startswith("FT_API int32_t") for _, code, _ in members):
        lines += [".SH RETURN VALUE", "FT_OK (0), or one of the statuses below, which are negative;",
                  "the reason is in", ".I *error", "and in", ".BR ft_last_error (3).",
                  ".SH ERRORS"]
        for status, meaning in statuses:
            lines += [".TP", f".B {status}", escape(meaning)]
    return lines


def overview(comment, pages, version):
    lines = [heading("libft", version), ".SH NAME",
             "libft \\- fault tolerance for virtual machines", ".SH SYNOPSIS", ".nf",
             ".B #include <libft.h>", ".B cc ... $(pkg\\-config \\-\\-cflags \\-\\-libs libft)", ".fi",
             ".SH DESCRIPTION"]
    for line in comment.split("\n"):
        rule = re.match(r"([A-Z]{4,})\.\s+(.*)", line)
        if rule:
            lines = lines[:-1] if lines[-1] == ".PP" else lines
            lines += [".SS " + rule.group(1), escape(rule.group(2))]
        elif re.match(r"  \S", line) and ":" in line[:12]:
            lines += ([".PP"] if lines[-1] != ".PP" else []) + [escape(line.strip())]
        elif line.strip() or lines[-1] != ".PP":
            lines += [escape(line.strip()) or ".PP"]
    lines += [".SH PAGES"]
    for title, about, _ in pages:
        lines += [".TP", f".BR {title} (3)", escape(about)]
    return lines


def write(folder, title, lines):
    with open(os.path.join(folder, title + ".3"), "w", encoding="utf-8") as out:
        out.write("\n".join(line for line in lines if line.strip()) + "\n")


def link(folder, name, title):
    file = os.path.join(folder, name + ".3")
    if os.path.lexists(file):
        os.remove(file)
    os.symlink(title + ".3", file)


def main(header_file, library, folder):
    with open(header_file, encoding="utf-8") as source:
        header = source.read()
    os.makedirs(folder, exist_ok=True)
    version = re.search(r'ft_version\(void\); /\* "([\d.]+)', header).group(1)
    statuses = re.findall(r"(FT_E_\w+) = -\d+,?\s*/\* (.*?) \*/", header)
    left = declarations(header)
    for title, about, pattern in PAGES:
        members = [one for one in left if re.fullmatch(pattern.replace("$", ""), one[0])]
        left = [one for one in left if one not in members]
        lines = page_lines(title, about, members, statuses, version)
        lines += option_table(library) if title == "ft_options" else []
        write(folder, title, lines + [".SH SEE ALSO", ".BR libft (3)"])
        for name, code, _ in members:
            if name != title and code.startswith("FT_API"):
                link(folder, name, title)
    if left:
        sys.exit(f"on no page: {', '.join(name for name, _, _ in left)}: add them to PAGES")
    first = re.search(r"/\* libft\.h: .*?\*/", header, re.S).group()
    write(folder, "libft", overview(plain(first), PAGES, version))


if __name__ == "__main__":
    main(*sys.argv[1:])
