"""The one native call of a step: a loop over launches, with a barrier after each.

A launch is four 64-bit words: the kernel's address, that of its operands' addresses, how many
rows (or elements) there are, and the number to whose multiples threads divide them (0: the first
thread does it alone). Kernels are ``kernel(table, begin, end, part)``. Threads meet at a counter
that each raises by one after each launch; who waits long yields its core.
"""

from __future__ import annotations

from functools import cache

from tinygrad_ai.kernels.cpu.simd import Native

WORDS = 4
SPINS = 2000  # before a waiting thread yields

SOURCE = f"""
declare i32 @sched_yield()

define void @run(ptr %launches, i64 %count, i64 %part, i64 %parts, ptr %counter) {{
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
  %single = icmp eq i64 %parts, 1
  br i1 %single, label %arrived, label %barrier
barrier:
  %before = atomicrmw add ptr %counter, i64 1 seq_cst
  %goal = mul i64 %next, %parts
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
  %ignored = call i32 @sched_yield()
  br label %longer
longer:
  br label %spin
arrived:
  br label %head
done:
  ret void
}}
"""


@cache
def driver() -> Native:
    """The compiled driver: ``run(launches, count, part, parts, counter)`` on addresses."""
    return Native(SOURCE, "run", 5)
