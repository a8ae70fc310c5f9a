"""Whether a port of this machine can be listened on."""

import errno
import socket


def is_free(host: str, port: int) -> bool:
    """False if a port is in use, or is none, at an address of this machine. Another machine's is taken to be free."""
    everywhere = host in ("127.0.0.1", "localhost", socket.gethostname())  # a store listens at all addresses
    try:
        [(family, kind, _, _, address), *_] = (
            [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("", port))]
            if everywhere
            else socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except socket.gaierror:  # a name that only the other machines know
        return True
    except OSError as error:
        return error.errno == errno.EADDRNOTAVAIL
    except OverflowError:
        return False
    return True
