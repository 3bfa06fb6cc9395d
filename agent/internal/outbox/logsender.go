package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/logstream"
)

// Limits of a request that joins lines.
const (
	maxJoinLines = 2000
	maxJoinBytes = 128 << 10 // larger bodies may not get an answer when they are refused
)

// A logSender sends a job's log.
type logSender struct {
	*sender
	log     *logstream.Log
	reader  *logstream.Reader
	waiting batch

	pace pacer

	aloneUntil int64 // records before this one are sent one by one: together they were refused
}

// isAlone reports whether a record is not to be joined with others.
func (s *logSender) isAlone(r logstream.Record) bool { return r.Seq < s.aloneUntil }

func (s *logSender) run(ctx, drain context.Context) error {
	if err := s.reconcile(ctx, drain); err != nil {
		return err
	}
	s.reader = s.log.Reader(s.file.get().Next)
	defer s.reader.Close()
	for {
		if s.waiting.empty() {
			records, err := s.next(ctx, drain)
			if errors.Is(err, io.EOF) {
				s.checkpoint(func(c *checkpoint) { c.Log = true })
				return nil
			}
			if err != nil {
				return err
			}
			s.waiting.add(records)
		}
		join := s.pace.join(s.log.Len()-s.waiting.records[0].Seq, time.Now(), drain.Err() != nil)
		if join {
			if err := s.gather(ctx, drain); err != nil {
				return err
			}
		}
		before := s.waiting
		next, lines := s.waiting.take(join && !s.isAlone(before.records[0]))
		err := s.post(ctx, drain, next, lines)
		if errors.Is(err, errSplit) {
			s.waiting, s.aloneUntil = before, next // each of them alone, to find the one that is refused
			continue
		}
		if err != nil {
			return err
		}
	}
}

// gather adds records to those that wait, until they fill a request or until the
// next one is due.
func (s *logSender) gather(ctx, drain context.Context) error {
	due, cancel := context.WithDeadline(drain, s.pace.sent.Add(joinPace))
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
func (s *logSender) next(ctx, drain context.Context) ([]logstream.Record, error) {
	records, err := s.reader.Next(drain)
	if err == nil || drain.Err() == nil || errors.Is(err, io.EOF) {
		return records, err
	}
	if s.log.Len() > s.reader.Seq() || s.log.Finished() {
		return s.reader.Next(ctx) // it is there, so nothing is waited for
	}
	return nil, errDraining
}

// post sends lines, after which everything before record next is accepted.
func (s *logSender) post(ctx, drain context.Context, next int64, lines []string) error {
	done := func(c *checkpoint) {
		c.Next = next
		c.Lines += int64(len(lines))
	}
	if len(lines) == 0 {
		s.checkpoint(done)
		return nil
	}
	s.pace.sending(len(lines), time.Now())
	want := s.file.get().Lines + int64(len(lines))
	return s.report(ctx, drain, report{
		what: "log",
		accepted: func(ctx context.Context) (bool, error) {
			held, err := s.held(ctx)
			return held >= want, err
		},
		send: func(ctx context.Context) error {
			begun := time.Now()
			err := s.cfg.Reporter.ReportLog(ctx, s.job.TestID(), strings.Join(lines, "\n"))
			if err == nil && len(lines) == 1 {
				s.pace.answered(time.Since(begun))
			}
			return err
		},
		splits: len(lines) > 1,
		reduced: func(ctx context.Context) error {
			return s.cfg.Reporter.ReportLog(ctx, s.job.TestID(), refusalNote(lines[0]))
		},
		replaced: s.refusedLine,
		endless:  func() bool { return !s.job.State().Ended() }, // there is time
		done:     done,
	})
}

// refusalNote is what the server gets in place of a line that is refused. It has
// nothing of the line.
func refusalNote(line string) string {
	return fmt.Sprintf("(A line of %d bytes was refused on its way to the server. It is in the agent's log of this job)", len(line))
}

// held returns how many lines of the log the server holds, 0 if it cannot be asked.
func (s *logSender) held(ctx context.Context) (int64, error) {
	if s.ask == nil {
		return 0, nil
	}
	rows, err := s.ask.LogRows(ctx, s.job.TestID())
	if err != nil {
		return 0, err
	}
	var lines int64
	for _, row := range rows {
		lines += 1 + int64(strings.Count(row, "\n"))
	}
	return lines, nil
}

// reconcile asks the server how many lines it holds, and continues after those: an
// agent before this one may have sent some and ended before the answer.
func (s *logSender) reconcile(ctx, drain context.Context) error {
	if !s.askFirst || s.ask == nil {
		return nil
	}
	var held int64
	err := s.report(ctx, drain, report{
		what: "question for the log",
		send: func(ctx context.Context) (err error) {
			held, err = s.held(ctx)
			return err
		},
		done:     func(*checkpoint) {},
		question: true,
	})
	if errors.Is(err, errUnanswered) {
		s.sender.log.Warn("server does not say which lines it holds, continuing after the last that it accepted", "job", s.job.ID)
		return nil
	}
	if err != nil {
		return err
	}
	return s.skip(ctx, held)
}

// skip moves the checkpoint past the first held lines of the log.
func (s *logSender) skip(ctx context.Context, held int64) error {
	c := s.file.get()
	reader := s.log.Reader(c.Next)
	defer reader.Close()
	for c.Lines < held && c.Next < s.log.Len() {
		records, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		for i := range records {
			if c.Lines == held {
				break
			}
			if _, ok := sendable(records[i]); ok {
				c.Lines++
			}
			c.Next = records[i].Seq + 1
		}
	}
	s.checkpoint(func(now *checkpoint) { now.Next, now.Lines = c.Next, c.Lines })
	return nil
}
