"""Representations of many sentences: embeddings, states of layers, their similarity and their maps."""

from vitrail import renamed

__getattr__ = renamed.names(__name__, dict.fromkeys(("Maps", "map_model"), "vitrail.inspection.maps.model_map"))
