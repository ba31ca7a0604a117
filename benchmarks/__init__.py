"""What the emitted C costs, counted on emulated boards, beside other engines: ``make bench``."""
