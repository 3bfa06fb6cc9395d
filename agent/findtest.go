package agent

import "context"

// A TestFinder is an Inquirer that can say which test a command belongs to. The
// agent asks it about a job whose own record of that was lost.
type TestFinder interface {
	// FindTest returns the id of the test that the named agent's command with
	// this id belongs to, among those that have not ended; empty if there is
	// none.
	FindTest(ctx context.Context, agentName, commandID string) (testID string, err error)
}

// findTest asks the server which test the job belongs to, if that is not known.
func (c *courier) findTest(ctx context.Context) error {
	if !c.j.snapshot().AskTest || c.d.get().settled() {
		return nil
	}
	finder, ok := c.a.cfg.Reporter.(TestFinder)
	if !ok {
		return nil
	}
	var id string
	err := c.report(ctx, report{
		what: "question for the test",
		send: func(ctx context.Context) (err error) {
			id, err = finder.FindTest(ctx, c.a.cfg.Name, c.j.id)
			return err
		},
		done: func(*ledger) {},
	})
	if err != nil {
		return err
	}
	return c.j.update(func(rec *record) { rec.TestID, rec.AskTest = cut(id, maxID), false })
}
