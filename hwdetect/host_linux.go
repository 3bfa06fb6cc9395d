package hwdetect

import "os"

// hostProbes are the probes of everything but the GPUs.
func (c Config) hostProbes() []probe {
	if c.Root != nil {
		return linuxProbes(c, c.Root)
	}
	return linuxProbes(c, os.DirFS("/"))
}
