package gpusets

import "slices"

// choose returns n of the free devices that are closest to each other; nil if there are
// not so many of one kind. Of sets that are equally close it takes the one that is
// farthest from the rest, so as not to tear apart what belongs together, then the first
// in the order of free.
//
// It grows a set from each device by the closest one. That finds the best set where
// closeness is by groups within groups, as of switches, nodes and machines, in time that
// grows with the square of the devices.
func choose(free []Device, n int) []Device {
	var best []int
	bestInside, bestOutside := -1, 0
	for seed := range free {
		set := grow(free, seed, n)
		if set == nil {
			continue
		}
		inside, outside := 0, 0
		for i, d := range free {
			for _, member := range set {
				switch {
				case member == i:
				case slices.Contains(set, i):
					inside += closeness(d, free[member])
				default:
					outside += closeness(d, free[member])
				}
			}
		}
		if inside > bestInside || inside == bestInside && outside < bestOutside {
			best, bestInside, bestOutside = set, inside, outside
		}
	}
	if best == nil {
		return nil
	}
	slices.Sort(best)
	chosen := make([]Device, len(best))
	for i, member := range best {
		chosen[i] = free[member]
	}
	return chosen
}

// grow returns n devices of the kind of seed, by their places in free, each the closest
// to those before it; nil if there are not so many.
func grow(free []Device, seed, n int) []int {
	set := []int{seed}
	near := make([]int, len(free)) // how close each device is to the set
	for len(set) < n {
		last, next := free[set[len(set)-1]], -1
		for i, d := range free {
			if slices.Contains(set, i) || !sameKind(d, free[seed]) {
				continue
			}
			near[i] += closeness(d, last)
			if next < 0 || near[i] > near[next] {
				next = i
			}
		}
		if next < 0 {
			return nil
		}
		set = append(set, next)
	}
	return set
}

// sameKind reports whether a benchmark on either device is the same measurement.
func sameKind(a, b Device) bool { return a.GPU.Model == b.GPU.Model && a.Profile == b.Profile }
