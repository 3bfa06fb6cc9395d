# $1 is the number of versions that are installed after this: 0 for a removal.
written=/etc/systemd/system/kitt-agent.service
if [ "$1" -eq 0 ]; then
  # The unit that kitt-agent service install writes takes the place of the package's.
  # It is left alone if it runs another program.
  if [ -e "$written" ] && ! grep -q '^ExecStart=/usr/bin/kitt-agent ' "$written"; then exit 0; fi
  # A stop ends the agent alone: a benchmark that runs goes on.
  if [ -d /run/systemd/system ]; then systemctl stop kitt-agent.service || true; fi
  if command -v systemctl >/dev/null; then systemctl --quiet --no-reload disable kitt-agent.service || true; fi
  if grep -qs '^# Written by kitt-agent service install' "$written"; then rm -f "$written"; fi
fi
