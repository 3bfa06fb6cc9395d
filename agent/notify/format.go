package notify

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// A Format is the form in which notifications are sent.
type Format string

// The formats.
const (
	JSON        Format = "json"        // a Notification
	Slack       Format = "slack"       // a message for an incoming web hook of Slack, Mattermost and others
	CloudEvents Format = "cloudevents" // CloudEvents 1.0 in structured mode, with a Notification as data
)

// Formats returns all formats.
func Formats() []Format { return []Format{JSON, Slack, CloudEvents} }

// A Notification is what an operator is told. Texts hold no secrets and no control
// characters.
type Notification struct {
	ID    string    `json:"id"` // the same for each attempt to send it
	Event Event     `json:"event"`
	Time  time.Time `json:"time"` // of the event
	Agent string    `json:"agent"`

	Title  string `json:"title"` // all of it in a few words
	Cause  string `json:"cause,omitempty"`
	Remedy string `json:"remedy,omitempty"`

	Reason string `json:"reason,omitempty"` // of Degraded and Recovered; see package health
	Blocks bool   `json:"blocks,omitempty"` // of Degraded: whether the agent can do no work

	Job *Job     `json:"job,omitempty"` // of an event about a job
	Log []string `json:"log,omitempty"` // of JobFailed: the last lines of the job's log

	Missed int `json:"missed,omitempty"` // notifications before this one that were dropped
}

// A Job is what a notification says of a job.
type Job struct {
	CommandID   string  `json:"command_id"`
	TestID      string  `json:"test_id,omitempty"`
	Type        string  `json:"type"` // run_test for a benchmark; see the commands of the KITT protocol
	Model       string  `json:"model"`
	Engine      string  `json:"engine,omitempty"`
	Suite       string  `json:"suite,omitempty"`
	State       string  `json:"state"`
	Class       string  `json:"class,omitempty"`     // of the failure
	Integrity   string  `json:"integrity,omitempty"` // whether the machine was fit to be measured: valid, warning, invalid or unjudged
	CancelledBy string  `json:"cancelled_by,omitempty"`
	DurationS   float64 `json:"duration_s,omitempty"` // of the benchmark
}

// cloudEvent is a CloudEvent in JSON (CloudEvents 1.0.2, JSON event format).
type cloudEvent struct {
	SpecVersion string       `json:"specversion"`
	ID          string       `json:"id"`
	Source      string       `json:"source"`
	Type        string       `json:"type"`
	Time        time.Time    `json:"time"`
	Subject     string       `json:"subject,omitempty"`
	ContentType string       `json:"datacontenttype"`
	Data        Notification `json:"data"`
}

// encode returns the body of a request and its content type.
func (f Format) encode(n Notification) (body []byte, kind string, err error) {
	switch f {
	case Slack:
		body, err = json.Marshal(map[string]string{"text": slackText(n)})
		return body, "application/json", err
	case CloudEvents:
		e := cloudEvent{
			SpecVersion: "1.0", ID: n.ID, Source: "/kitt-agent/" + n.Agent, Type: "io.github.kirizan.kitt-agent." + string(n.Event),
			Time: n.Time, Subject: n.Reason, ContentType: "application/json", Data: n,
		}
		if n.Job != nil {
			e.Subject = n.Job.CommandID
		}
		body, err = base.EncodeJSON(e)
		return body, "application/cloudevents+json; charset=utf-8", err
	case JSON:
	}
	body, err = base.EncodeJSON(n)
	return body, "application/json", err
}

// slackEscape escapes what Slack's mrkdwn gives a meaning to.
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// slackText returns n as text for Slack.
func slackText(n Notification) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		for i, a := range args {
			args[i] = slackEscape.Replace(fmt.Sprint(a))
		}
		fmt.Fprintf(&b, format+"\n", args...)
	}
	line("*%s*", n.Title)
	if n.Cause != "" {
		line("%s", n.Cause)
	}
	if n.Remedy != "" {
		line("_What to do:_ %s", n.Remedy)
	}
	if j := n.Job; j != nil {
		line("Job %s, %s %s, %s", j.CommandID, j.Engine, j.Suite, j.State)
	}
	if len(n.Log) > 0 {
		// Only backticks end a block of code.
		line("```\n%s\n```", strings.ReplaceAll(strings.Join(n.Log, "\n"), "`", "'"))
	}
	if n.Missed > 0 {
		line("%d notifications before this one were dropped.", n.Missed)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
