package systemd

import "strings"

// Read returns what File made a unit file from, except for Path. Of a file that
// is not ours it returns what it recognises.
func Read(text string) Service {
	var s Service
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch name {
		case "User":
			s.RunAs = value
		case "ExecStart":
			words := splitWords(value)
			if len(words) > 0 {
				s.Program, s.Args = words[0], words[1:]
			}
			for i, arg := range s.Args {
				s.Args[i] = strings.ReplaceAll(arg, "$$", "$")
			}
		case "Environment":
			for _, word := range splitWords(value) {
				if home, ok := strings.CutPrefix(word, "KITT_HOME="); ok {
					s.Home = home
				}
			}
		}
	}
	return s
}

// splitWords undoes quoteWord for words that are separated by blanks, except
// for doubled dollar signs.
func splitWords(line string) []string {
	var words []string
	var word strings.Builder
	begun, quoted := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted, begun = !quoted, true
		case c == '\\' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			begun = true
		case c == ' ' && !quoted:
			if begun {
				words = append(words, strings.ReplaceAll(word.String(), "%%", "%"))
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		words = append(words, strings.ReplaceAll(word.String(), "%%", "%"))
	}
	return words
}
