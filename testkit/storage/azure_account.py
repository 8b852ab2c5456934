"""The account of the tests' own Azure server."""

import base64

AZURE_ACCOUNT = "farmtests"
AZURE_KEY = base64.b64encode(b"the key of the account of the tests").decode()


def connection_string(port: int, key: str = AZURE_KEY) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={key};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{AZURE_ACCOUNT};"
    )
