import sys

if (
    not sys.flags.safe_path
):  # `python -m` puts the current folder first, so that its random.py would hide the standard library's
    sys.path.append(sys.path.pop(0))

from sslzoo.cli import main

if __name__ == "__main__":  # spawned processes import this file
    main()
