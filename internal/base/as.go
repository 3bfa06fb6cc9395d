package base

// As returns the first value in w's chain of Unwrap() W that is a T: w itself, or one
// that it wraps. It is what the As of an interface's package calls.
func As[T, W any](w W) (T, bool) {
	for any(w) != nil {
		if t, ok := any(w).(T); ok {
			return t, true
		}
		wrapper, ok := any(w).(interface{ Unwrap() W })
		if !ok {
			break
		}
		w = wrapper.Unwrap()
	}
	var none T
	return none, false
}
