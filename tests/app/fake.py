"""Stands for a long command: counts to `total`, keeps the count in a file, goes on from there when started again."""
import json
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    script = json.loads(sys.argv[1])
    out, total = Path(script["out"]), script.get("total", 3)
    state = out.with_suffix(".state")
    out.with_suffix(".pid").write_text(str(os.getpid()))
    first = int(state.read_text()) if state.exists() else 0
    print("this is for people", file=sys.stderr)
    try:
        for done in range(first, total):
            print(json.dumps({"what": "frames filled", "done": done, "total": total, "seconds_left": 1.5}))
            state.with_suffix(".new").write_text(str(done))
            state.with_suffix(".new").replace(state)  # an interruption leaves the old count or the new one
            time.sleep(script.get("pause", 0))
        if "error" in script:
            print(json.dumps({"error": script["error"]}))
            sys.exit(2)
        if script.get("breaks"):
            raise MemoryError("no more")
        out.write_text(f"from {first} to {total}")
        print(json.dumps({"result": str(out), "frames": total}))
    except KeyboardInterrupt:
        out.with_suffix(".interrupted").touch()
        sys.exit(130)
