"""Runs a command on a terminal of its own and talks to it.

stdin: JSON {"argv": [...], "steps": [["expect", text, seconds] | ["send", text] | ["wait", seconds]], "end": seconds}
stdout: JSON {"output": what the terminal showed, "status": exit status, "failed": the text that did not come, "echo": the terminal
echoes after the end}
"""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

job = json.load(sys.stdin)
master, slave = pty.openpty()
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 160, 0, 0))
pid = os.fork()
if pid == 0:
    os.setsid()
    os.close(master)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.execvp(job["argv"][0], job["argv"])

output = b""


def read_for(seconds):
    global output
    ready, _, _ = select.select([master], [], [], seconds)
    if not ready:
        return False
    try:
        output += os.read(master, 65536)
    except OSError:
        return False
    return True


failed = None
seen = 0
for step in job["steps"]:
    if step[0] == "send":
        os.write(master, step[1].encode())
    elif step[0] == "wait":
        until = time.time() + step[1]
        while time.time() < until:
            read_for(0.1)
    else:
        until = time.time() + step[2]
        while output.find(step[1].encode(), seen) < 0:
            if time.time() > until:
                failed = step[1]
                break
            read_for(0.2)
        if failed is not None:
            break
        seen = output.find(step[1].encode(), seen) + len(step[1].encode())

status = None
until = time.time() + job.get("end", 20)
while time.time() < until:
    read_for(0.1)
    done, raw = os.waitpid(pid, os.WNOHANG)
    if done:
        status = os.waitstatus_to_exitcode(raw)
        break
if status is None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
while read_for(0.1):
    pass
echo = bool(termios.tcgetattr(slave)[3] & termios.ECHO)
print(json.dumps({"output": output.decode(errors="replace"), "status": status, "failed": failed, "echo": echo}))
