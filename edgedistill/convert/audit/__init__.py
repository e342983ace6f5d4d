"""The speed audit of a written file: in how many parts it runs, what runs outside of the delegate, and whether int8 is faster than fp32.

`audit` measures and judges, `check` makes its findings fatal. `machine` says what this machine is and `target` what the files
are for; `outside` and `speed` measure, `findings` finds causes and remedies. Whether a file answers rightly is `parity`'s business.
"""

from edgedistill.convert.audit.findings import Finding
from edgedistill.convert.audit.machine import Machine, this_machine
from edgedistill.convert.audit.outside import Outside
from edgedistill.convert.audit.target import Target, read_target
from edgedistill.convert.audit.verdict import Audit, Measuring, audit, check

__all__ = ["Audit", "Finding", "Machine", "Measuring", "Outside", "Target", "audit", "check", "read_target", "this_machine"]
