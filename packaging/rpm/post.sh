# $1 is the number of versions that are installed after this: 1 for the first, 2 for
# an upgrade.
getent group kitt-agent >/dev/null || groupadd --system kitt-agent
getent passwd kitt-agent >/dev/null ||
  useradd --system --gid kitt-agent --no-create-home --home-dir /var/lib/kitt-agent --shell /sbin/nologin kitt-agent
[ -d /var/lib/kitt-agent ] || install -d -m 0700 -o kitt-agent -g kitt-agent /var/lib/kitt-agent
# An upgrade restarts an agent that runs; its benchmark goes on. systemd does not
# reload its unit files: that can take the GPUs away from containers.
if [ "$1" -gt 1 ] && [ -d /run/systemd/system ]; then
  systemctl try-restart kitt-agent.service || echo 'kitt-agent: the agent was not restarted; see: journalctl --unit=kitt-agent'
fi
