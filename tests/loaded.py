"""What the programs of tests need: it is loaded once, by the process that they are forks of."""

from __future__ import annotations

import gc

import anthropic
import neo4j
import pytest

from execgraph import Engine
from execgraph.adapters import cli
from execgraph.adapters.anthropic import client_adapter
from execgraph.adapters.messages_api import MessagesServer
from execgraph.engine import agent
from execgraph.graphstore.neo4j import store as neo4j_store
from execgraph.graphstore.sqlite import store as sqlite_store

__all__: list[str] = []

_LOADED = (anthropic, neo4j, pytest, Engine, cli, client_adapter, MessagesServer, agent)
_STORES = (neo4j_store, sqlite_store)

gc.collect()
gc.freeze()
