"""Real Postgres and Valkey servers as children of this process, out of nothing but Python packages.

postgres = Postgres(data_dir / "postgres")
url = postgres.start()
...
postgres.stop()
"""

from tracehub.runtime.embedded.ephemeral import Stores, ephemeral_stores
from tracehub.runtime.embedded.errors import EmbeddedError
from tracehub.runtime.embedded.postgres import Postgres
from tracehub.runtime.embedded.valkey import Valkey

__all__ = ["EmbeddedError", "Postgres", "Stores", "Valkey", "ephemeral_stores"]
