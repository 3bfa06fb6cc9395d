package integrity

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

const (
	separator  = ", "
	noValue    = "[N/A]"                   // as nvidia-smi writes it
	timeLayout = "2006/01/02 15:04:05.000" // as nvidia-smi writes it, but always UTC
	maxRow     = 1 << 10                   // bytes of one row
)

// A row is one line of a sample file: one GPU at one time, or the host alone.
type row struct {
	sample *Sample
	gpu    *hwdetect.GPUTelemetry // nil in a row without a GPU
}

// A column writes and reads one value of a row. Names are those of `nvidia-smi
// --query-gpu` where it has one.
type column struct {
	name  string
	write func(b []byte, r row) []byte
	read  func(r row, cell string) error
}

var columns = []column{
	{"timestamp", func(b []byte, r row) []byte { return r.sample.Time.UTC().AppendFormat(b, timeLayout) },
		func(r row, cell string) (err error) {
			r.sample.Time, err = time.Parse(timeLayout, cell)
			return err
		}},
	{"index", func(b []byte, r row) []byte {
		if r.gpu == nil {
			return append(b, noValue...)
		}
		return strconv.AppendInt(b, int64(r.gpu.Index), 10)
	}, func(r row, cell string) (err error) {
		r.gpu.Index, err = strconv.Atoi(cell)
		if r.gpu.Index < 0 || r.gpu.Index > maxGPUIndex {
			err = errors.New("index out of range")
		}
		return err
	}},
	number("utilization.gpu [%]", 0, 100, func(g *hwdetect.GPUTelemetry) **float64 { return &g.UtilizationPct }),
	mebibytes("memory.used [MiB]", func(g *hwdetect.GPUTelemetry) **int64 { return &g.MemoryUsedBytes }),
	number("temperature.gpu", -100, 1000, func(g *hwdetect.GPUTelemetry) **float64 { return &g.TemperatureC }),
	number("temperature.memory", -100, 1000, func(g *hwdetect.GPUTelemetry) **float64 { return &g.MemoryTemperatureC }),
	number("power.draw [W]", 0, 1e5, func(g *hwdetect.GPUTelemetry) **float64 { return &g.PowerW }),
	integer("clocks.current.sm [MHz]", maxClockMHz, func(g *hwdetect.GPUTelemetry) **int { return &g.SMClockMHz }),
	integer("clocks.current.memory [MHz]", 1e6, func(g *hwdetect.GPUTelemetry) **int { return &g.MemoryClockMHz }),
	integer("pstate", 15, func(g *hwdetect.GPUTelemetry) **int { return &g.PerformanceState }),
	throttleColumn,
	integer("pcie.link.gen.current", 100, func(g *hwdetect.GPUTelemetry) **int { return &g.PCIeGen }),
	integer("pcie.link.width.current", 100, func(g *hwdetect.GPUTelemetry) **int { return &g.PCIeWidth }),
	count("ecc.errors.uncorrected.volatile.total", func(g *hwdetect.GPUTelemetry) **int64 { return &g.ECCUncorrected }),
	count("xid.last", func(g *hwdetect.GPUTelemetry) **int64 { return &g.LastXID }),
	microseconds("host.uptime [us]", func(s *Sample) **time.Duration { return &s.Uptime }),
	microseconds("host.psi.cpu.some [us]", func(s *Sample) **time.Duration { return &s.CPUSome }),
	microseconds("host.psi.memory.some [us]", func(s *Sample) **time.Duration { return &s.MemorySome }),
	microseconds("host.psi.memory.full [us]", func(s *Sample) **time.Duration { return &s.MemoryFull }),
	microseconds("host.psi.io.some [us]", func(s *Sample) **time.Duration { return &s.IOSome }),
	microseconds("host.psi.io.full [us]", func(s *Sample) **time.Duration { return &s.IOFull }),
}

const (
	maxGPUIndex = 1023
	maxClockMHz = 20_000
)

func ofGPU(name string, write func([]byte, *hwdetect.GPUTelemetry) []byte, read func(*hwdetect.GPUTelemetry, string) error) column {
	return column{name, func(b []byte, r row) []byte {
		n := len(b)
		if r.gpu != nil {
			b = write(b, r.gpu)
		}
		if len(b) == n {
			return append(b, noValue...)
		}
		return b
	}, func(r row, cell string) error { return read(r.gpu, cell) }}
}

func number(name string, low, high float64, field func(*hwdetect.GPUTelemetry) **float64) column {
	return ofGPU(name, func(b []byte, g *hwdetect.GPUTelemetry) []byte {
		v := *field(g)
		if v == nil || !(*v >= low && *v <= high) {
			return b
		}
		return strconv.AppendFloat(b, math.Round(*v*100)/100, 'f', -1, 64)
	}, func(g *hwdetect.GPUTelemetry, cell string) error {
		v, err := strconv.ParseFloat(cell, 64)
		if err != nil || !(v >= low && v <= high) {
			return fmt.Errorf("not a number from %g to %g", low, high)
		}
		*field(g) = &v
		return nil
	})
}

func integer(name string, high int, field func(*hwdetect.GPUTelemetry) **int) column {
	return ofGPU(name, func(b []byte, g *hwdetect.GPUTelemetry) []byte {
		v := *field(g)
		if v == nil || *v < 0 || *v > high {
			return b
		}
		return strconv.AppendInt(b, int64(*v), 10)
	}, func(g *hwdetect.GPUTelemetry, cell string) error {
		v, err := strconv.Atoi(cell)
		if err != nil || v < 0 || v > high {
			return fmt.Errorf("not a number from 0 to %d", high)
		}
		*field(g) = &v
		return nil
	})
}

func count(name string, field func(*hwdetect.GPUTelemetry) **int64) column {
	return scaled(name, 1, field)
}

func mebibytes(name string, field func(*hwdetect.GPUTelemetry) **int64) column {
	return scaled(name, 1<<20, field)
}

func scaled(name string, unit int64, field func(*hwdetect.GPUTelemetry) **int64) column {
	return ofGPU(name, func(b []byte, g *hwdetect.GPUTelemetry) []byte {
		v := *field(g)
		if v == nil || *v < 0 {
			return b
		}
		return strconv.AppendInt(b, *v/unit, 10)
	}, func(g *hwdetect.GPUTelemetry, cell string) error {
		v, err := strconv.ParseInt(cell, 10, 64)
		if err != nil || v < 0 || v > math.MaxInt64/unit {
			return errors.New("not a count")
		}
		v *= unit
		*field(g) = &v
		return nil
	})
}

var throttleColumn = ofGPU("clocks_event_reasons.active", func(b []byte, g *hwdetect.GPUTelemetry) []byte {
	if g.ThrottleReasons == nil {
		return b
	}
	return fmt.Appendf(b, "0x%016x", hwdetect.ThrottleBits(g.ThrottleReasons))
}, func(g *hwdetect.GPUTelemetry, cell string) error {
	bits, err := strconv.ParseUint(cell, 0, 64)
	if err == nil {
		g.ThrottleReasons = hwdetect.ThrottleReasons(bits)
	}
	return err
})

func microseconds(name string, field func(*Sample) **time.Duration) column {
	return column{name, func(b []byte, r row) []byte {
		v := *field(r.sample)
		if v == nil || *v < 0 {
			return append(b, noValue...)
		}
		return strconv.AppendInt(b, v.Microseconds(), 10)
	}, func(r row, cell string) error {
		us, err := strconv.ParseInt(cell, 10, 64)
		if err != nil || us < 0 || us > math.MaxInt64/1000 {
			return errors.New("not a number of microseconds")
		}
		v := time.Duration(us) * time.Microsecond
		*field(r.sample) = &v
		return nil
	}}
}

// A table is the order of columns in one file. A column that this version doesn't
// know is nil: it is written as [N/A] and not read.
type table []*column

// newTable returns all columns.
func newTable() table {
	t := make(table, len(columns))
	for i := range columns {
		t[i] = &columns[i]
	}
	return t
}

// parseTable parses a file's first line.
func parseTable(line string) (table, error) {
	names := strings.Split(strings.TrimRight(line, "\r\n"), separator)
	if len(names) > 256 || names[0] != columns[0].name {
		return nil, errors.New("the first line does not name the columns")
	}
	t := make(table, len(names))
	seen := map[string]bool{}
	for i, name := range names {
		if seen[name] {
			return nil, fmt.Errorf("column %q is there twice", name)
		}
		seen[name] = true
		for c := range columns {
			if columns[c].name == name {
				t[i] = &columns[c]
			}
		}
	}
	if !seen["index"] {
		return nil, errors.New("there is no column index")
	}
	return t, nil
}

func (t table) header() string {
	var names []string
	for _, c := range t {
		names = append(names, c.name)
	}
	return strings.Join(names, separator) + "\n"
}

// append appends the rows of one sample: one for each GPU, or one without.
func (t table) append(b []byte, s *Sample) []byte {
	if len(s.GPUs) == 0 {
		return t.appendRow(b, row{s, nil})
	}
	for i := range s.GPUs {
		b = t.appendRow(b, row{s, &s.GPUs[i]})
	}
	return b
}

func (t table) appendRow(b []byte, r row) []byte {
	for i, c := range t {
		if i > 0 {
			b = append(b, separator...)
		}
		if c == nil {
			b = append(b, noValue...)
		} else {
			b = c.write(b, r)
		}
	}
	return append(b, '\n')
}

// parse parses one line into s and g, which must be zero. It reports whether the row
// is about a GPU.
func (t table) parse(line []byte, s *Sample, g *hwdetect.GPUTelemetry) (ofGPU bool, err error) {
	r := row{s, g}
	line = bytes.TrimRight(line, "\r\n")
	for i, c := range t {
		cell, rest, more := bytes.Cut(line, []byte(separator))
		if more != (i < len(t)-1) {
			return false, errors.New("wrong number of columns")
		}
		line = rest
		if c == nil || string(cell) == noValue {
			if i == 0 {
				return false, errors.New("no time")
			}
			continue
		}
		if err := c.read(r, string(cell)); err != nil {
			return false, fmt.Errorf("%s: %w", c.name, err)
		}
		ofGPU = ofGPU || c.name == "index"
	}
	return ofGPU, nil
}
