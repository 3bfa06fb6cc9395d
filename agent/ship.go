package agent

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/logstream"
)

// How lines are shipped. The server shows each request as one line, so a line a
// request is the only form that reads well; but requests are what costs, so
// lines that wait are joined.
const (
	joinBacklog  = 32                     // more lines waiting than this are joined,
	joinAge      = 400 * time.Millisecond // and so are lines that have waited this long,
	joinFor      = 500 * time.Millisecond // and those that follow within this time,
	joinPace     = 50 * time.Millisecond  // in requests at least so far apart, unless they are full
	maxJoinLines = 2000
	maxJoinBytes = 128 << 10 // larger bodies may not get an answer when they are refused
)

// shipper ships a job's log.
type shipper struct {
	*courier
	log     *logstream.Log
	reader  *logstream.Reader
	waiting waitingLines

	sent      time.Time // when the last request was made
	joinUntil time.Time // lines are joined up to then
}

func (s *shipper) run(ctx context.Context) error {
	if err := s.reconcile(ctx); err != nil {
		return err
	}
	s.reader = s.log.Reader(s.d.get().Next)
	defer s.reader.Close()
	for {
		if s.waiting.empty() {
			records, err := s.next(ctx)
			if errors.Is(err, io.EOF) {
				s.note(func(l *ledger) { l.Log = true })
				return nil
			}
			if err != nil {
				return err
			}
			s.waiting.add(records)
		}
		join := s.join(s.waiting.records[0])
		if join {
			if err := s.gather(ctx); err != nil {
				return err
			}
		}
		next, lines := s.waiting.take(join)
		if err := s.ship(ctx, next, lines); err != nil {
			return err
		}
	}
}

// join decides whether lines are joined now, of which first has waited longest.
// In a flood they are for a while, even when few wait for once.
func (s *shipper) join(first logstream.Record) bool {
	now := time.Now()
	if s.log.Len()-first.Seq > joinBacklog || now.Sub(first.Time) > joinAge {
		s.joinUntil = now.Add(joinFor)
	}
	return now.Before(s.joinUntil)
}

// gather adds records to those that wait, until they fill a request or until the
// next one is due.
func (s *shipper) gather(ctx context.Context) error {
	due, cancel := context.WithDeadline(s.drain, s.sent.Add(joinPace))
	defer cancel()
	for !s.waiting.full() {
		wait := due
		if s.log.Len() > s.reader.Seq() {
			wait = ctx // it is there, so nothing is waited for
		}
		records, err := s.reader.Next(wait)
		switch {
		case err == nil:
			s.waiting.add(records)
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF), due.Err() != nil:
			return nil
		default:
			return err
		}
	}
	return nil
}

// next returns the next records, waiting for some if there are none. While the
// agent stops it doesn't wait.
func (s *shipper) next(ctx context.Context) ([]logstream.Record, error) {
	records, err := s.reader.Next(s.drain)
	if err == nil || s.drain.Err() == nil || errors.Is(err, io.EOF) {
		return records, err
	}
	if s.log.Len() > s.reader.Seq() || s.log.Finished() {
		return s.reader.Next(ctx) // it is there, so nothing is waited for
	}
	return nil, errDraining
}

// ship sends lines, after which everything before record next is settled.
func (s *shipper) ship(ctx context.Context, next int64, lines []string) error {
	done := func(l *ledger) {
		l.Next = next
		l.Lines += int64(len(lines))
	}
	if len(lines) == 0 {
		s.note(done)
		return nil
	}
	s.sent = time.Now()
	want := s.d.get().Lines + int64(len(lines))
	return s.report(ctx, report{
		what: "log",
		settled: func(ctx context.Context) (bool, error) {
			held, err := s.held(ctx)
			return held >= want, err
		},
		send: func(ctx context.Context) error {
			return s.a.cfg.Reporter.ReportLog(ctx, s.j.testID(), strings.Join(lines, "\n"))
		},
		done: done,
	})
}

// held returns how many lines of the log the server holds, 0 where it cannot be
// asked.
func (s *shipper) held(ctx context.Context) (int64, error) {
	if s.ask == nil {
		return 0, nil
	}
	rows, err := s.ask.LogRows(ctx, s.j.testID())
	if err != nil {
		return 0, err
	}
	var lines int64
	for _, row := range rows {
		lines += 1 + int64(strings.Count(row, "\n"))
	}
	return lines, nil
}

// reconcile asks the server how many lines it holds, if an agent before this
// one may have sent some whose answer it did not live to see, and goes on after
// those.
func (s *shipper) reconcile(ctx context.Context) error {
	if !s.j.recovered || s.ask == nil {
		return nil
	}
	var held int64
	err := s.report(ctx, report{
		what: "question for the log",
		send: func(ctx context.Context) (err error) {
			held, err = s.held(ctx)
			return err
		},
		done: func(*ledger) {},
	})
	if err != nil {
		return err
	}
	return s.skip(ctx, held)
}

// skip moves the ledger past the first held lines of the log.
func (s *shipper) skip(ctx context.Context, held int64) error {
	l := s.d.get()
	reader := s.log.Reader(l.Next)
	defer reader.Close()
	for l.Lines < held && l.Next < s.log.Len() {
		records, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		for i := range records {
			if l.Lines == held {
				break
			}
			if _, ok := shipped(records[i]); ok {
				l.Lines++
			}
			l.Next = records[i].Seq + 1
		}
	}
	s.note(func(now *ledger) { now.Next, now.Lines = l.Next, l.Lines })
	return nil
}
