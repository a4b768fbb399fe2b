# SPDX-License-Identifier: MIT
"""A Redis and a Redis Cluster for as long as the program that started this one lives; prints a port of each."""

import os
import sys
import time

from servers import Cluster, Redis, free_ports

parent = os.getppid()
one = Redis(os.path.join(sys.argv[1], "one"), free_ports(1)[0]).start()
cluster = Cluster(os.path.join(sys.argv[1], "cluster"), 60000).start()
print(one.port, cluster.nodes[0].port, flush=True)
while os.getppid() == parent:
    time.sleep(0.2)
