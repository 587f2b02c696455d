"""guidellm's own command line: TORCH ARGUMENTS…, with torch from the site-packages TORCH."""

import sys

sys.path.append(sys.argv.pop(1))  # also in its child processes, which are begun by this file

if __name__ == "__main__":
    from guidellm.__main__ import cli

    sys.argv[0] = "guidellm"
    cli()
