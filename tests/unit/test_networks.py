"""The names of networks, and the chains that they mean."""

from __future__ import annotations

import pytest

from ampd_ray.datasets.networks import CHAIN_IDS, chain_of, network_name


def test_a_name_means_the_chain_that_it_was_made_of() -> None:
    for chain_id in (*CHAIN_IDS.values(), 0, 987_654_321):
        assert chain_of(network_name(chain_id), {}) == chain_id


@pytest.mark.parametrize("network", ["", "ours", "chain_", "chain_x", "chain_-1", "chain_1_0", "chain_²", "my_1"])
def test_other_names_mean_no_chain(network: str) -> None:
    assert chain_of(network, {}) is None


def test_what_the_configuration_says_comes_first() -> None:
    assert chain_of("mainnet", {"mainnet": 5}) == 5
    assert chain_of("chain_7", {"chain_7": 8}) == 8
