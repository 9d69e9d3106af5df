"""Runs the tests marked `gpu` in a separate process."""
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import torch

from tools.gpu.settings import ROOT


def run_tests(device: torch.device, seconds: float, work: Path, result: dict, say: Callable[[str], None]) -> None:
    """Into `result`: how pytest ended, and for every test its outcome, seconds and message."""
    report = work / "tests.xml"
    environment = os.environ | ({} if device.type == "cuda" else {"GI_GPU_TESTS": device.type})
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py", f"--junitxml={report}",
               "-p", "no:cacheprovider", "--durations=0", "--tb=short"]
    try:
        process = subprocess.run(command, cwd=ROOT, env=environment, timeout=seconds, text=True, errors="replace",
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        result |= {"exit status": process.returncode, "output": process.stdout.splitlines()[-120:]}
    except subprocess.TimeoutExpired as error:
        result |= {"exit status": None, "output": _text(error.stdout).splitlines()[-120:]}
        raise
    result["tests"] = {case.get("name"): _outcome(case) for case in ElementTree.parse(report).iter("testcase")}
    for name, test in result["tests"].items():
        say(f"  {name}: {test['outcome']} in {test['seconds']:.1f} s {test['message'][:300]}")


def _outcome(case):
    for kind in "failure", "error", "skipped":
        element = case.find(kind)
        if element is not None:
            return {"outcome": kind, "seconds": float(case.get("time")), "message": element.get("message") or "",
                    "details": (element.text or "")[-3000:]}
    return {"outcome": "passed", "seconds": float(case.get("time")), "message": ""}


def _text(output):
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
