// Package ranges keeps sets of numbers that mostly come in runs: which messages of a stream are done, which were
// received out of order, which are still missing.
//
// A [Set] holds uint64s as closed ranges that are sorted and have a gap between them, so there is one way to write
// each set and a million numbers in a row cost one [Range]:
//
//	Add(1, 3)      1-3
//	Add(7, 9)      1-3      7-9
//	Add(4, 4)      1---4    7-9        touches 1-3 and extends it
//	Remove(8, 8)   1---4    7   9      splits 7-9
//	Add(5, 8)      1------------9      closes every gap it fills
//
// Every number may be a member, 0 and math.MaxUint64 included.
//
// # What it costs
//
// A stream moves one way: numbers are added near the end and removed near the front. Both cost O(1) amortised and, once
// the set has found its size, allocate nothing. The ranges lie in the middle of a buffer with room on both sides:
//
//	buf   . . . [1-4] [7] [9] . . .
//	           lo              hi
//
// so taking the first range away only moves lo, and a change anywhere else shifts whichever side is shorter: O(log n) to
// find the place plus the shift. The worst case is a change in the middle of a very large set (a quarter of a million
// ranges is a shift of up to 2 MiB); whoever feeds a set from the network bounds how many ranges it may have, see
// [Set.Len]. Room no longer needed is given back.
//
// The package has no goroutines, clock or I/O, and no Set is safe for concurrent use.
package ranges
