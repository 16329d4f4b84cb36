"""TLS to the broker: whom to trust, and why a broker is not trusted."""

import socket
import ssl
from typing import Final

from roost.chassis.errors import TrustUnusable
from roost.chassis.settings import BrokerSettings

_PROBE_S: Final = 5.0


def tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    """Return what a connection trusts and shows.

    Raises:
        TrustUnusable: a file of the settings cannot be read or is no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if settings.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TrustUnusable(f"ROOST_CA_FILE {settings.ca_file}: {_in_words(error)}") from error
    if settings.cert_file is not None:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        except (OSError, ssl.SSLError) as error:
            files = f"ROOST_CERT_FILE {settings.cert_file} or ROOST_KEY_FILE {settings.key_file}"
            raise TrustUnusable(f"{files}: {_in_words(error)}") from error
    return context


def why_distrusted(settings: BrokerSettings) -> str | None:
    """Try a handshake and say why it fails; None where trust is not what is missing."""
    if not settings.tls:
        return None
    context, address = tls_context(settings), (settings.host, settings.port)
    try:
        plain = socket.create_connection(address, timeout=_PROBE_S)
    except OSError:
        return None
    try:
        with plain, context.wrap_socket(plain, server_hostname=settings.host):
            return None
    except ssl.SSLCertVerificationError as error:
        return f"the broker's certificate is not trusted: {error.verify_message}. {_cure(settings)}"
    except OSError:
        return f"{settings.host}:{settings.port} agrees on no TLS: is that the right port?"


def _cure(settings: BrokerSettings) -> str:
    if settings.ca_file is None:
        return "Name the certificate of the authority that signed it in ROOST_CA_FILE"
    return f"It must be signed by the authority in {settings.ca_file}, for {settings.host}"


def _in_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "this is no certificate or key (PEM), or they do not belong together"
    return error.strerror or str(error)
