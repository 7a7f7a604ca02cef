"""Text mode: comparing answers of engines that show nothing but text. Its limits are in `docs/text-mode.md`."""
