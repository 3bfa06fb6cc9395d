package systemd

import (
	"fmt"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/internal/base"
)

// maxText bounds a text of a summary that comes from elsewhere, in characters.
const maxText = 200

// summary returns in one line what the agent does and how its server answers.
func summary(s agent.Status) string {
	text := "idle"
	waiting := 0
	for _, j := range s.Jobs {
		switch {
		case j.State == agent.StateAccepted:
			waiting++
		case text == "idle":
			text = fmt.Sprintf("%s: %s", j.State, base.Printable(j.Type+" "+j.Model, maxText))
		}
	}
	if s.Draining {
		text += ", stopping once it has ended"
	}
	if waiting > 0 {
		text += fmt.Sprintf(", %d waiting", waiting)
	}
	switch {
	case s.Server.Refusal != "":
		text += "; server refuses this agent: " + base.Printable(s.Server.Refusal, maxText)
	case s.Server.LastError != "":
		text += "; server not reached: " + base.Printable(s.Server.LastError, maxText)
	case !s.Server.Registered:
		text += "; not registered yet"
	default:
		text += "; registered"
	}
	return text
}
