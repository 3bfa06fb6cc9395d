package storage

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
func As[T any](s Storage) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		wrapper, ok := s.(interface{ Unwrap() Storage })
		if !ok {
			break
		}
		s = wrapper.Unwrap()
	}
	var none T
	return none, false
}
