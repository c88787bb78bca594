"""A Hugging Face Hub for tests: repositories in a folder, the Hub's protocol over real HTTP on loopback.

    with hub_server.serving(folder, token="hf_tiny", organisations=("alchemists",)) as hub:
        subprocess.run([sys.executable, "client.py"], env=os.environ | hub.environment())

The client is unmodified and in a process of its own. It believes that it is the user `tester`.
"""

from hub_server.faults import Fault, dropped, expired_token, refused, slow_disk, stale_parent
from hub_server.server import Hub, serving

__all__ = ["Fault", "Hub", "dropped", "expired_token", "refused", "serving", "slow_disk", "stale_parent"]
