package integritytest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// TestJudge checks that j satisfies the contract of [integrity.Judge], with e and with
// evidence that lacks everything. It returns every violation it finds, joined.
func TestJudge(j integrity.Judge, e integrity.Evidence) error {
	var violations []error
	violation := func(format string, args ...any) { violations = append(violations, fmt.Errorf(format, args...)) }
	for _, evidence := range []integrity.Evidence{e, {}, {End: &integrity.State{}}} {
		v := j.Judge(&evidence)
		for _, r := range v.Reasons {
			if r.Code == "" || r.Text == "" {
				violation("a reason has no code or no text: %+v", r)
			}
			if !slices.Contains([]integrity.Grade{integrity.Info, integrity.Warning, integrity.Invalid}, r.Severity) {
				violation("reason %q has the severity %q", r.Code, r.Severity)
			}
		}
		for _, u := range v.Unjudged {
			if u.Code == "" || u.Reason == "" {
				violation("an unjudged figure has no code or no reason: %+v", u)
			}
		}
		if v.Judged < 0 {
			violation("%d figures were judged", v.Judged)
		}
		if again := j.Judge(&evidence); !reflect.DeepEqual(v, again) {
			violation("the same evidence was judged differently: %+v and %+v", v, again)
		}
	}
	if v := j.Judge(&integrity.Evidence{}); len(v.Reasons) > 0 {
		violation("there is a reason without evidence: %s", v.Reasons[0].Text)
	}
	return errors.Join(violations...)
}
