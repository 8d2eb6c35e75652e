//go:build race

package spool

// raceDetector: when Badger begins to collect values it reads the newest version of its memtable
// without the lock that a commit writes it under. An older version only makes it more careful, so
// that is harmless, but not to the race detector: under it commits wait.
const raceDetector = true
