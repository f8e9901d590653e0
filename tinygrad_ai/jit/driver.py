"""The one native call of a step: a loop over launches, with a barrier after each.

A launch is four 64-bit words: the kernel's address, that of its operands' addresses, how many
rows (or elements) there are, and the number to whose multiples threads divide them (0: the first
thread does it alone). Where the kernel's address is 0, the second word is that of a flag: if it is
raised, nothing more is done. Kernels are ``kernel(table, begin, end, part)``. Threads meet at a
counter that each raises by one after each launch and that is never set back; who waits long yields
its core. A *job* is six words: its number, and the arguments of ``run`` but for the part.
"""

from __future__ import annotations

import os
from functools import cache

from tinygrad_ai.jit.cache import object_code
from tinygrad_ai.kernels.cpu.machine import Native

WORDS = 4
JOB = 6
SPINS = 2000  # before a waiting thread yields
PATIENCE = 500_000  # looks for the next job, a millisecond, before a thread naps between them
NAPS = 8_000  # before it leaves, after about two seconds
YIELD, NAP, LENGTH = (
    ("SwitchToThread", "Sleep", 1) if os.name == "nt" else ("sched_yield", "usleep", 50)
)

SOURCE = f"""
declare i32 @{YIELD}()
declare i32 @{NAP}(i32)

define void @run(ptr %launches, i64 %count, i64 %part, i64 %parts, ptr %counter, i64 %base) {{
entry:
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %next, %arrived ]
  %next = add i64 %k, 1
  %more = icmp slt i64 %k, %count
  br i1 %more, label %body, label %done
body:
  %start = mul i64 %k, {WORDS}
  %launch = getelementptr i64, ptr %launches, i64 %start
  %second = getelementptr i64, ptr %launch, i64 1
  %third = getelementptr i64, ptr %launch, i64 2
  %fourth = getelementptr i64, ptr %launch, i64 3
  %kernel = load ptr, ptr %launch
  %table = load ptr, ptr %second
  %check = icmp eq ptr %kernel, null
  br i1 %check, label %look, label %launching
look:
  %flag = load i64, ptr %table
  %raised = icmp ne i64 %flag, 0
  br label %meet
launching:
  %total = load i64, ptr %third
  %grain = load i64, ptr %fourth
  %alone = icmp eq i64 %grain, 0
  br i1 %alone, label %whole, label %shared
whole:
  %first = icmp eq i64 %part, 0
  br i1 %first, label %all, label %meet
all:
  call void %kernel(ptr %table, i64 0, i64 %total, i64 0)
  br label %meet
shared:
  %less = sub i64 %total, 1
  %over = add i64 %less, %grain
  %units = sdiv i64 %over, %grain
  %a = mul i64 %units, %part
  %b = add i64 %a, %units
  %c = sdiv i64 %a, %parts
  %d = sdiv i64 %b, %parts
  %begin = mul i64 %c, %grain
  %stop = mul i64 %d, %grain
  %past = icmp sgt i64 %stop, %total
  %end = select i1 %past, i64 %total, i64 %stop
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %mine, label %meet
mine:
  call void %kernel(ptr %table, i64 %begin, i64 %end, i64 %part)
  br label %meet
meet:
  %enough = phi i1 [%raised, %look],[false, %whole], [false, %all], [false, %shared], [false, %mine]
  %single = icmp eq i64 %parts, 1
  br i1 %single, label %arrived, label %barrier
barrier:
  %before = atomicrmw add ptr %counter, i64 1 seq_cst
  %passed = mul i64 %next, %parts
  %goal = add i64 %base, %passed
  br label %spin
spin:
  %spins = phi i64 [ 0, %barrier ], [ %again, %longer ]
  %now = load atomic i64, ptr %counter seq_cst, align 8
  %met = icmp sge i64 %now, %goal
  br i1 %met, label %arrived, label %waiting
waiting:
  %again = add i64 %spins, 1
  %tired = icmp sgt i64 %again, {SPINS}
  br i1 %tired, label %yield, label %longer
yield:
  %ignored = call i32 @{YIELD}()
  br label %longer
longer:
  br label %spin
arrived:
  br i1 %enough, label %done, label %head
done:
  ret void
}}

define void @post(ptr %job) {{
  %number = load i64, ptr %job
  %next = add i64 %number, 1
  store atomic i64 %next, ptr %job seq_cst, align 8
  ret void
}}

define void @serve(ptr %job, i64 %part, ptr %seen) {{
entry:
  %first = load i64, ptr %seen
  br label %look
look:
  %last = phi i64 [ %first, %entry ], [ %last, %on ], [ %number, %do ]
  %looks = phi i64 [ 0, %entry ], [ %again, %on ], [ 0, %do ]
  %number = load atomic i64, ptr %job seq_cst, align 8
  %new = icmp ne i64 %number, %last
  br i1 %new, label %work, label %wait
wait:
  %again = add i64 %looks, 1
  %tired = icmp sgt i64 %again, {PATIENCE}
  br i1 %tired, label %nap, label %polite
nap:
  %rested = call i32 @{NAP}(i32 {LENGTH})
  %late = icmp sgt i64 %again, {PATIENCE + NAPS}
  br i1 %late, label %leave, label %on
polite:
  %low = and i64 %again, 255
  %due = icmp eq i64 %low, 0
  br i1 %due, label %give, label %on
give:
  %ignored = call i32 @{YIELD}()
  br label %on
on:
  br label %look
work:
  store i64 %number, ptr %seen
  %p1 = getelementptr i64, ptr %job, i64 1
  %p2 = getelementptr i64, ptr %job, i64 2
  %p3 = getelementptr i64, ptr %job, i64 3
  %p4 = getelementptr i64, ptr %job, i64 4
  %p5 = getelementptr i64, ptr %job, i64 5
  %launches = load ptr, ptr %p1
  %count = load i64, ptr %p2
  %parts = load i64, ptr %p3
  %counter = load ptr, ptr %p4
  %base = load i64, ptr %p5
  %mine = icmp slt i64 %part, %parts
  br i1 %mine, label %do, label %leave
do:
  call void @run(ptr %launches, i64 %count, i64 %part, i64 %parts, ptr %counter, i64 %base)
  br label %look
leave:
  ret void
}}
"""


@cache
def driver() -> tuple[Native, Native, Native]:
    """``run(launches, count, part, parts, counter, base)``, ``post(job)``, ``serve(job, part, …)``.

    ``post`` gives the job its next number; ``serve`` takes part in every job whose number is other
    than the one at its last argument, ``seen``, until none has come for a while. It does not return
    to Python in between: threads that wait for the interpreter's lock wake each other on one core.
    """
    code = object_code(SOURCE)
    return Native(code, "run", 6), Native(code, "post", 1), Native(code, "serve", 3)
