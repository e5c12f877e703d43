"""Checks what deploy/ ships, as far as that can be done without a cluster and without images: python3 scripts/deployment

scripts/setup.sh installs what it runs. Prints a line for each check, and what is wrong.
"""

import sys
import time

import elsewhere
import kubernetes
import promises
import scan
import tools


def main():
    failed = False
    for check in kubernetes.CHECKS + promises.CHECKS + elsewhere.CHECKS + scan.CHECKS:
        started = time.monotonic()
        try:
            problems = list(check())
        except tools.Refused as refused:
            problems = [str(refused)]
        print(f"{'FAILED' if problems else 'ok':6} {time.monotonic() - started:5.1f} s  {check.__doc__.splitlines()[0]}", flush=True)
        for problem in problems:
            print(f"       {problem}", flush=True)
        failed |= bool(problems)
    return failed


sys.exit(main())
