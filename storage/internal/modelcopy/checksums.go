package modelcopy

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"path"
	"strings"
)

// maxSums bounds a file of checksums, in bytes.
const maxSums = 16 << 20

type sha256Sum = [sha256.Size]byte

// isSums reports whether a file contains checksums of other files, and of which
// one if its name says so.
func isSums(name string) (of string, ok bool) {
	switch upper := strings.ToUpper(name); upper {
	case "SHA256SUMS", "SHA256SUMS.TXT", "SHA256SUM", "SHA256SUM.TXT":
		return "", true
	}
	const suffix = ".sha256"
	at := len(name) - len(suffix)
	if at <= 0 || !strings.EqualFold(name[at:], suffix) {
		return "", false
	}
	return name[:at], true
}

// parseSums reads checksums in the format of sha256sum, with or without --tag. A
// line with only a checksum is about the file named of. Other lines are ignored.
func parseSums(r io.Reader, of string) map[string]sha256Sum {
	sums := map[string]sha256Sum{}
	lines := bufio.NewScanner(io.LimitReader(r, maxSums))
	lines.Buffer(make([]byte, 0, 4096), 64<<10)
	for lines.Scan() {
		// Windows ends lines with CR, and begins files with a byte order mark.
		line := strings.TrimRight(strings.TrimPrefix(lines.Text(), "\ufeff"), "\r")
		line, escaped := strings.CutPrefix(line, `\`)
		if tagged, ok := strings.CutPrefix(line, "SHA256 ("); ok {
			if at := strings.LastIndex(tagged, ") = "); at > 0 {
				addSum(sums, tagged[at+4:], unescape(tagged[:at], escaped))
			}
			continue
		}
		sum, name, _ := strings.Cut(line, " ")
		if strings.TrimSpace(name) == "" {
			name = of
		} else if len(name) > 0 && (name[0] == ' ' || name[0] == '*') {
			name = name[1:]
		}
		name = unescape(name, escaped)
		if of != "" && path.Base(name) == of {
			name = of // the line has the path of another machine
		}
		addSum(sums, sum, name)
	}
	return sums
}

// unescape undoes how sha256sum escapes a name with a line break or a backslash.
// The line of such a name begins with a backslash.
func unescape(name string, escaped bool) string {
	if !escaped {
		return name
	}
	return strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r").Replace(name)
}

func addSum(sums map[string]sha256Sum, text, name string) {
	var sum sha256Sum
	if len(text) != 2*len(sum) || name == "" || len(sums) >= maxEntries {
		return
	}
	if _, err := hex.Decode(sum[:], []byte(text)); err == nil {
		sums[path.Clean(name)] = sum
	}
}
