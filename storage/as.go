package storage

import "github.com/kirizan/kitt-agent/internal/base"

// As returns the first storage in s's chain of Unwrap() Storage that is a T, and
// false if there is none. It finds optional interfaces, such as [Planner],
// [Configurer] and [LeaseKeeper], behind storages that wrap another one:
//
//	if p, ok := storage.As[storage.Planner](s); ok {
//		p.Plan(models)
//	}
//
// A wrapper without an Unwrap method hides what it wraps. Then copies that waiting
// jobs want may be removed (Planner), the server can't change the settings
// (Configurer), and leases of ended jobs stay after a restart (LeaseKeeper).
func As[T any](s Storage) (T, bool) { return base.As[T](s) }
