import sys

if (
    not sys.flags.safe_path
):  # `python -m` has put the current folder first, whose random.py would be the standard library's
    sys.path.append(sys.path.pop(0))

from sslzoo.cli import main

if __name__ == "__main__":  # a spawned process imports this file
    main()
