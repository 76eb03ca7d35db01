"""The graph and where it is kept: the domain model, the store interface and its two stores."""
