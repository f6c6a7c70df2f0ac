"""What importing the library costs."""

import pkgutil
import subprocess
import sys

import holdtrue_stats

EXTRAS = {"kernel"}  # needs numba and is loaded by the fold where that is installed


def test_no_module_loads_scipy_or_numba_on_import() -> None:
    names = {module.name for module in pkgutil.iter_modules(holdtrue_stats.__path__)} - EXTRAS
    imports = "; ".join(f"import holdtrue_stats.{name}" for name in sorted(names))
    program = f"import sys; {imports}; print(sorted({{'scipy', 'numba'}} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
