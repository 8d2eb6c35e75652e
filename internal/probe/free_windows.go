package probe

import "golang.org/x/sys/windows"

// freeSpace tells what the file system of a directory has left for this user, and in all.
func freeSpace(dir string) (free, total int64, err error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var left, all uint64
	if err := windows.GetDiskFreeSpaceEx(path, &left, &all, nil); err != nil {
		return 0, 0, err
	}
	return int64(min(left, 1<<62)), int64(min(all, 1<<62)), nil
}
