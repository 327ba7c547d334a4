#!/usr/bin/env python3
"""Rows for a sample database of the classic `employees` shape: 300,000 people, 2.85 million salaries. The same every time.

usage: rows.py FOLDER
"""
import datetime
import os
import random
import sys

SYLLABLES = "ka ri mo san te lo vi ber na du chi el or fa jin pe stu gar".split()
TITLES = ["Engineer", "Senior Engineer", "Staff", "Senior Staff", "Assistant Engineer", "Technique Leader", "Manager"]
DEPARTMENTS = "Marketing Finance Personnel Production Development Quality Sales Research Support Legal".split()
FIRST_DAY = datetime.date(1985, 1, 1).toordinal()


def names(rng, count, longest):
    return ["".join(rng.choices(SYLLABLES, k=rng.randint(2, longest))).title() for _ in range(count)]


def date(day):
    return datetime.date.fromordinal(day).isoformat()


def person(number, rng, first, last, out):
    hired = FIRST_DAY + int(rng.random() ** 1.6 * 5400)
    born = date(hired - rng.randint(7500, 14000))
    out["employees"].write(f"{number}\t{born}\t{rng.choice(first)}\t{rng.choice(last)}\t{'MF'[rng.random() < 0.4]}\t{date(hired)}\n")
    salary, begins, years = rng.randint(38735, 75000), hired, rng.randint(2, 17)
    for year in range(years):
        ends = date(begins + 365) if year < years - 1 else "9999-01-01"
        out["salaries"].write(f"{number}\t{salary}\t{date(begins)}\t{ends}\n")
        begins, salary = begins + 365, salary + rng.randint(-400, 4200)
    begins = hired
    for title in range(rng.choice((1, 1, 2))):
        out["titles"].write(f"{number}\t{TITLES[(number + title) % 7]}\t{date(begins)}\t9999-01-01\n")
        begins += rng.randint(900, 2500)
    out["dept_emp"].write(f"{number}\td{1 + rng.randrange(9):03d}\t{date(hired)}\t9999-01-01\n")
    if rng.random() < 0.1:
        out["dept_emp"].write(f"{number}\td010\t{date(hired + 400)}\t9999-01-01\n")


def main(folder):
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(3003)
    first, last = names(rng, 1275, 3), names(rng, 1637, 4)
    out = {table: open(os.path.join(folder, table + ".tsv"), "w") for table in ("departments", "employees", "titles", "dept_emp", "salaries")}
    for number in range(10001, 310025):
        person(number, rng, first, last, out)
    for number, name in enumerate(DEPARTMENTS, 1):
        out["departments"].write(f"d{number:03d}\t{name}\n")
    for file in out.values():
        file.close()


main(sys.argv[1])
