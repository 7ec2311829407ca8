"""Recipes under budgets: sensitivities, trials on a device, and the recipe that the budgets leave."""

from __future__ import annotations

from edgekit.search.searching import Found as Found
from edgekit.search.searching import find_recipe as find_recipe
