"""How gradients flow back: vanishing or exploding over time steps or layers."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from vitrail.data.subwords import Vocabularies
from vitrail.evaluation.gradients import PlaceNorms, longest_batches, measure
from vitrail.inspection.doctor.findings import Finding
from vitrail.inspection.doctor.patient import Patient
