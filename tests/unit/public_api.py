"""What the specification of the library promises its callers, as data; ``test_public_api`` holds ``tiny_ca`` to it.

An address is ``module:Class.member``. A signature is written as in the specification, without types; a member of an
enumeration as ``Class.MEMBER``. Keyword-only parameters with defaults may follow it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tiny_ca.const import CertType

__all__ = [
    "ABSTRACT_METHODS",
    "ASYNC_GENERATORS",
    "CLASS_METHODS",
    "COLUMNS",
    "CONSTANTS",
    "COROUTINES",
    "ENUMERATIONS",
    "EXCEPTIONS",
    "FIELDS",
    "GENERATORS",
    "KEYWORDS",
    "NAMES",
    "NO_DEFAULT",
    "OF_OUR_CHOICE",
    "PROPERTIES",
    "SETTABLE",
    "SIGNATURES",
    "STATIC_METHODS",
]

_FACTORY: Final = "tiny_ca.ca_factory.factory:CertificateFactory"
_FILE_LOADER: Final = "tiny_ca.ca_factory.utils.file_loader:CAFileLoader"
_ASYNC_FILE_LOADER: Final = "tiny_ca.ca_factory.utils.afile_loader:AsyncCAFileLoader"
_LIFETIME: Final = "tiny_ca.ca_factory.utils.life_time:CertLifetime"
_SERIAL_PARSER: Final = "tiny_ca.ca_factory.utils.serial:CertSerialParser"
_SERIAL: Final = "tiny_ca.utils.serial_generator:SerialWithEncoding"
_BASE_DB: Final = "tiny_ca.db.base_db:BaseDB"
_SYNC_DB: Final = "tiny_ca.db.sync_db_manager:SyncDBHandler"
_ASYNC_DB: Final = "tiny_ca.db.async_db_manager:AsyncDBHandler"
_BASE_STORAGE: Final = "tiny_ca.storage.base_storage:BaseStorage"
_STORAGE: Final = "tiny_ca.storage.local_storage:LocalStorage"
_ASYNC_STORAGE: Final = "tiny_ca.storage.async_local_storage:AsyncLocalStorage"
_MANAGER: Final = "tiny_ca.managers.sync_lifecycle_manager:CertLifecycleManager"
_ASYNC_MANAGER: Final = "tiny_ca.managers.async_lifecycle_manager:AsyncCertLifecycleManager"
_MODELS: Final = "tiny_ca.models.certificate"


def _of(owner: str, methods: dict[str, str]) -> dict[str, str]:
    return {f"{owner}.{name}": signature for name, signature in methods.items()}


_FACTORY_METHODS: Final = {
    "__init__": "(self, ca_loader, logger=None)",
    "build_self_signed_ca": "(common_name='Internal CA', organization='My Company', country='UA', "
    "key_size=2048, days_valid=3650, valid_from=None, logger=None)",
    "issue_certificate": "(self, common_name, serial_type=CertType.SERVICE, key_size=2048, "
    "days_valid=365, valid_from=None, email=None, is_server_cert=False, "
    "is_client_cert=False, san_dns=None, san_ip=None)",
    "issue_intermediate_ca": "(self, common_name, key_size=4096, days_valid=1825, valid_from=None, "
    "path_length=0, organization=None, country=None)",
    "renew_certificate": "(self, cert, days_valid=365, valid_from=None)",
    "cosign_certificate": "(self, cert, days_valid=None, valid_from=None)",
    "build_crl": "(self, revoked_certs, days_valid=1)",
    "abuild_crl": "(self, revoked_certs, days_valid=1)",
    "verify_crl": "(self, crl)",
    "validate_cert": "(self, cert)",
    "inspect_certificate": "(cert)",
    "export_pkcs12": "(self, cert, private_key, password=None, name=None)",
    "get_cert_chain": "(self, cert)",
}
_LOADER: Final = "ca_cert_path, ca_key_path, ca_key_password=None, logger=None"
_LIFETIME_METHODS: Final = {
    "compute": "(valid_from=None, days_valid=365)",
    "compute_async": "(valid_from=None, days_valid=365)",
    "normalize_dt": "(dt)",
    "valid_from": "(cert)",
    "valid_from_async": "(cert)",
    "valid_to": "(cert)",
    "valid_to_async": "(cert)",
}
_SERIAL_PARSER_METHODS: Final = dict.fromkeys(("raw", "typed", "raw_async", "typed_async"), "(cert)")
_SERIAL_METHODS: Final = {"generate": "(name, serial_type)", "parse": "(serial)"}
_DB_METHODS: Final = {
    "get_by_serial": "(self, serial)",
    "get_by_name": "(self, common_name)",
    "register_cert_in_db": "(self, cert, uuid, key_type=CertType.DEVICE)",
    "revoke_certificate": "(self, serial_number, reason=ReasonFlags.unspecified)",
    "get_revoked_certificates": "(self)",
    "list_all": "(self, status=None, key_type=None, limit=100, offset=0)",
    "get_expiring": "(self, within_days=30)",
    "update_status_expired": "(self)",
    "delete_by_uuid": "(self, uuid)",
}
_HANDLER: Final = {"__init__": "(self, db_url, logger=None)", **_DB_METHODS}
_ENGINE: Final = {
    "__init__": "(self, db_url='sqlite:///ca_repository.db', create_all=True)",
    "session": "(self)",
}
_STORAGE_METHODS: Final = {
    "save_certificate": "(self, cert, file_name, cert_path=None, uuid_str=None, encoding=None, private_format=None, "
    "public_format=None, encryption_algorithm=None, is_add_uuid=True, is_overwrite=False)",
    "delete_certificate_folder": "(self, uuid_str, cert_path=None)",
}
_FOLDER: Final = {
    "__init__": "(self, base_folder='./certs', base_encoding=Encoding.PEM, "
    "base_private_format=PrivateFormat.TraditionalOpenSSL, "
    "base_public_format=PublicFormat.SubjectPublicKeyInfo, "
    "base_encryption_algorithm=NoEncryption(), logger=None)",
    **_STORAGE_METHODS,
}
_MANAGER_METHODS: Final = {
    # The document's ``storage=LocalStorage()``: one folder for all managers would be made at import.
    "__init__": "(self, storage=None, factory=None, db_handler=None, logger=None)",
    "create_self_signed_ca": "(self, config, cert_path=None, uuid_str=None, is_overwrite=False)",
    "issue_certificate": "(self, config, cert_path=None, uuid_str=None, is_overwrite=False)",
    "issue_intermediate_ca": "(self, common_name, key_size=4096, days_valid=1825, valid_from=None, path_length=0, "
    "organization=None, country=None, cert_path=None, uuid_str=None)",
    "renew_certificate": "(self, serial, days_valid=365, valid_from=None)",
    "rotate_certificate": "(self, serial, config)",
    # The default is BaseDB's.
    "revoke_certificate": "(self, serial, reason=ReasonFlags.unspecified)",
    "generate_crl": "(self, cert_path=None, days_valid=1)",
    "get_certificate_status": "(self, serial)",
    "verify_certificate": "(self, cert)",
    "verify_crl": "(self, crl)",
    "inspect_certificate": "(self, cert)",
    "cosign_certificate": "(self, cert, days_valid=None, valid_from=None)",
    "export_pkcs12": "(self, cert, private_key, password=None, name=None)",
    "get_cert_chain": "(self, cert)",
    "list_certificates": "(self, status=None, key_type=None, limit=100, offset=0)",
    "get_expiring_soon": "(self, within_days=30)",
    "refresh_expired_statuses": "(self)",
    "delete_certificate": "(self, serial, cert_path=None)",
}

# As inspect.signature sees them through the class: a class method's ``cls`` is bound already.
SIGNATURES: Final = {
    **_of(_FACTORY, _FACTORY_METHODS),
    f"{_FILE_LOADER}.__init__": f"(self, {_LOADER})",
    f"{_ASYNC_FILE_LOADER}.__init__": f"(self, {_LOADER})",
    f"{_ASYNC_FILE_LOADER}.load": "(self)",
    f"{_ASYNC_FILE_LOADER}.create": f"({_LOADER})",
    **_of(_LIFETIME, _LIFETIME_METHODS),
    **_of(_SERIAL_PARSER, _SERIAL_PARSER_METHODS),
    **_of(_SERIAL, _SERIAL_METHODS),
    f"{_MODELS}:CAConfig.__init__": "(self, /, **data)",
    f"{_MODELS}:ClientConfig.__init__": "(self, /, **data)",
    "tiny_ca.db.models:CertificateRecord.__init__": "(self, **kwargs)",
    **_of(_BASE_DB, _DB_METHODS),
    **_of(_SYNC_DB, _HANDLER),
    **_of(_ASYNC_DB, _HANDLER),
    **_of("tiny_ca.db.sync_db_manager:DatabaseManager", _ENGINE),
    **_of("tiny_ca.db.async_db_manager:DatabaseManager", _ENGINE),
    **_of(_BASE_STORAGE, _STORAGE_METHODS),
    **_of(_STORAGE, _FOLDER),
    **_of(_ASYNC_STORAGE, _FOLDER),
    **_of(_MANAGER, _MANAGER_METHODS),
    **_of(_ASYNC_MANAGER, _MANAGER_METHODS),
}

# Demanded by name beyond the document's signatures.
KEYWORDS: Final[dict[str, dict[str, object]]] = {
    f"{_FACTORY}.cosign_certificate": {"allow_ca": False},
    f"{_FACTORY}.export_pkcs12": {"compatibility": False},
    f"{_SYNC_DB}.__init__": {"strict": False, "crl_window": timedelta(days=365)},
    f"{_ASYNC_DB}.__init__": {"strict": False, "crl_window": timedelta(days=365)},
}
# Demanded by name only: callable without arguments.
OF_OUR_CHOICE: Final = (f"{_MANAGER}.repair", f"{_ASYNC_MANAGER}.repair")

STATIC_METHODS: Final = (
    f"{_FACTORY}.build_self_signed_ca",
    f"{_FACTORY}.inspect_certificate",
    *_of(_LIFETIME, _LIFETIME_METHODS),
    *_of(_SERIAL_PARSER, _SERIAL_PARSER_METHODS),
)
CLASS_METHODS: Final = (f"{_ASYNC_FILE_LOADER}.create", *_of(_SERIAL, _SERIAL_METHODS))
GENERATORS: Final = (f"{_SYNC_DB}.get_revoked_certificates",)
ASYNC_GENERATORS: Final = (f"{_ASYNC_DB}.get_revoked_certificates",)
COROUTINES: Final = (
    f"{_FACTORY}.abuild_crl",
    f"{_ASYNC_FILE_LOADER}.load",
    f"{_ASYNC_FILE_LOADER}.create",
    f"{_ASYNC_MANAGER}.repair",
    *(address for address in _of(_ASYNC_MANAGER, _MANAGER_METHODS) if not address.endswith("__init__")),
    *(address for address in _of(_ASYNC_DB, _DB_METHODS) if address not in ASYNC_GENERATORS),
    *_of(_ASYNC_STORAGE, _STORAGE_METHODS),
    *(address for address in SIGNATURES if address.endswith("_async")),
)
ABSTRACT_METHODS: Final = {_BASE_DB: frozenset(_DB_METHODS), _BASE_STORAGE: frozenset(_STORAGE_METHODS)}

_CA_PROPERTIES: Final = ("ca_cert", "ca_key", "base_info")
SETTABLE: Final = (f"{_MANAGER}.factory", f"{_ASYNC_MANAGER}.factory")
PROPERTIES: Final = (
    *(f"tiny_ca.ca_factory.utils.file_loader:ICALoader.{name}" for name in _CA_PROPERTIES),
    *(f"{_FILE_LOADER}.{name}" for name in _CA_PROPERTIES),
    *(f"{_ASYNC_FILE_LOADER}.{name}" for name in _CA_PROPERTIES),
    *SETTABLE,
)

NO_DEFAULT: Final = object()  # none is documented: required, or of our choice
FIELDS: Final[dict[str, dict[str, object]]] = {
    f"{_MODELS}:CommonNameCertificate": {"common_name": "Internal CA"},
    f"{_MODELS}:BaseCertificateDataModel": {"organization": "My Company", "country": "UA"},
    f"{_MODELS}:BaseCertificateConfig": {"key_size": 2048, "days_valid": NO_DEFAULT, "valid_from": None},
    f"{_MODELS}:CAConfig": {
        "common_name": "Internal CA",
        "organization": "My Company",
        "country": "UA",
        "key_size": 2048,
        "days_valid": 3650,
        "valid_from": None,
    },
    f"{_MODELS}:ClientConfig": {
        "common_name": "Internal CA",
        "key_size": NO_DEFAULT,
        "days_valid": NO_DEFAULT,
        "valid_from": None,
        "serial_type": CertType.SERVICE,
        "is_client_cert": False,
        "is_server_cert": True,
        "san_dns": None,
        "san_ip": None,
        "email": None,
        "name": None,
    },
    f"{_MODELS}:CertificateInfo": dict.fromkeys(
        ("organization", "organizational_unit", "country", "state", "locality"), None
    ),
    f"{_MODELS}:CertificateDetails": dict.fromkeys(
        (
            "serial_number",
            "common_name",
            "organization",
            "country",
            "issuer_cn",
            "not_valid_before",
            "not_valid_after",
            "is_ca",
            "san_dns",
            "san_ip",
            "key_usage",
            "extended_key_usage",
            "fingerprint_sha256",
            "subject_key_identifier",
            "public_key_size",
        ),
        NO_DEFAULT,
    ),
}
COLUMNS: Final = (
    "id",
    "serial_number",
    "common_name",
    "status",
    "not_valid_before",
    "not_valid_after",
    "key_type",
    "certificate_pem",
    "revocation_date",
    "revocation_reason",
    "uuid",
)
CONSTANTS: Final[dict[str, object]] = {
    f"{_SERIAL}.RANDOM_BITS": 64,
    f"{_SERIAL}.NAME_BITS": 32,
    f"{_SERIAL}.MAX_NAME_LENGTH": 4,
    "tiny_ca.const:ALLOWED_CERT_EXTENSIONS": (".key", ".pem", ".csr"),
}
ENUMERATIONS: Final = {
    "tiny_ca.const:CertType": {"CA": "CA", "DEVICE": "DEV", "INTERNAL": "INT", "SERVICE": "SVC", "USER": "USR"},
    "tiny_ca.db.const:CertificateStatus": {
        "EXPIRED": "expired",
        "REVOKED": "revoked",
        "UNKNOWN": "unknown",
        "VALID": "valid",
    },
    "tiny_ca.db.const:RevokeStatus": {
        "NOT_FOUND": "The certificate was not revoked because there is no valid certificate "
        "with the specified serial number.",
        "OK": "success",
        "UNKNOWN_ERROR": "The certificate was not revoked due to an internal error. Please review the service logs.",
    },
}
EXCEPTIONS: Final = (
    "InvalidRangeTimeCertificate",
    "ValidationCertError",
    "FileAlreadyExists",
    "NotUniqueCertOwner",
    "DBNotInitedError",
    "CertNotFound",
    "NotExistCertFile",
    "IsNotFile",
    "WrongType",
    "ErrorLoadCert",
)

# Module -> what can be imported from it. For tiny_ca itself, this is all of it.
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "tiny_ca": (
        "BaseDB",
        "BaseStorage",
        "CAConfig",
        "CAFileLoader",
        "CertLifetime",
        "CertType",
        "CertificateFactory",
        "CertificateRecord",
        "CertificateStatus",
        "ClientConfig",
        "ICALoader",
        "LocalStorage",
        "RevokeStatus",
        "SerialWithEncoding",
        "SyncDBHandler",
        "SyncDatabaseManager",
    ),
    "tiny_ca.ca_factory": (
        "CertificateFactory",
        "CertLifetime",
        "ICALoader",
        "CAFileLoader",
        "AsyncCAFileLoader",
        "SerialWithEncoding",
    ),
    "tiny_ca.ca_factory.factory": ("CertificateFactory",),
    "tiny_ca.ca_factory.utils.file_loader": ("CAFileLoader", "ICALoader"),
    "tiny_ca.ca_factory.utils.afile_loader": ("AsyncCAFileLoader",),
    "tiny_ca.ca_factory.utils.life_time": ("CertLifetime",),
    "tiny_ca.ca_factory.utils.serial": ("CertSerialParser",),
    "tiny_ca.utils.serial_generator": ("SerialWithEncoding", "SerialGenerator", "ISerialGenerator"),
    "tiny_ca.const": ("CertType", "ALLOWED_CERT_EXTENSIONS"),
    "tiny_ca.exc": EXCEPTIONS,
    "tiny_ca.models": ("CAConfig", "ClientConfig"),
    "tiny_ca.models.certificate": (
        "CAConfig",
        "ClientConfig",
        "CertificateInfo",
        "CertificateDetails",
        "CommonNameCertificate",
        "BaseCertificateDataModel",
        "BaseCertificateConfig",
    ),
    "tiny_ca.db": (
        "BaseDB",
        "CertificateRecord",
        "CertificateStatus",
        "RevokeStatus",
        "SyncDBHandler",
        "SyncDatabaseManager",
    ),
    "tiny_ca.db.base_db": ("BaseDB",),
    "tiny_ca.db.models": ("CertificateRecord", "Base"),
    "tiny_ca.db.const": ("CertificateStatus", "RevokeStatus"),
    "tiny_ca.db.sync_db_manager": ("SyncDBHandler", "DatabaseManager"),
    "tiny_ca.db.async_db_manager": ("AsyncDBHandler", "DatabaseManager"),
    "tiny_ca.storage.base_storage": ("BaseStorage",),
    "tiny_ca.storage.local_storage": ("LocalStorage",),
    "tiny_ca.storage.async_local_storage": ("AsyncLocalStorage",),
    "tiny_ca.storage.const": ("CryptoObject",),
    "tiny_ca.managers": ("CertLifecycleManager",),
    "tiny_ca.managers.sync_lifecycle_manager": ("CertLifecycleManager",),
    "tiny_ca.managers.async_lifecycle_manager": ("AsyncCertLifecycleManager",),
    "tiny_ca.settings": ("DEFAULT_LOGGER",),
}
