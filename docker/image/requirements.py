"""What federa needs, out of setup.cfg, a line each: so that a change of the code leaves the layer of packages as it is.

python3 requirements.py setup.cfg EXTRA,EXTRA
"""

import configparser
import sys


def requirements(path, extras):
    """The lines of install_requires and of the named extras, and setuptools, which builds federa itself."""
    config = configparser.ConfigParser()
    with open(path, encoding="utf-8") as file:
        config.read_file(file)
    wanted = [config["options"]["install_requires"], *(config["options.extras_require"][name] for name in extras)]
    return ["setuptools"] + [
        line for block in wanted for line in block.split("\n") if line and not line.startswith("#")
    ]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1], [name for name in sys.argv[2].split(",") if name])))
