"""A file system that loses what was not synced when the power goes. Run by the system's Python, which has FUSE::

    python3 lossy_fs.py STORE MOUNT [SEED]

``STORE`` is what is on the disk, ``MOUNT`` is what programs see. What they write stays in this process's memory
until they call fsync or fdatasync on that file; then, and only then, it goes to ``STORE``. Ended by SIGUSR1,
this process forgets the rest: the power is cut. With a SEED, each page of 4 KiB that was not synced reaches
the disk with a chance of one half, in no order, as on a real disk. Sizes, too, are synced with the file.
Making, renaming and removing files is durable at once (as with a journal of metadata that is never behind).
"""

# ruff: noqa: D102 - the operations are named as FUSE names them
import errno
import os
import random
import signal
import stat
import sys

import fuse  # type: ignore[import-not-found]

fuse.fuse_python_api = (0, 2)
PAGE = 4096


class Held:
    """What a file is in memory: its size, and its pages that are not on the disk."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = os.stat(path).st_size
        self.pages: dict[int, bytearray] = {}

    def page(self, number: int) -> bytearray:
        """A page as programs see it."""
        if number not in self.pages:
            with open(self.path, "rb") as disk:
                found = os.pread(disk.fileno(), PAGE, number * PAGE)
            return bytearray(found.ljust(PAGE, b"\0"))
        return self.pages[number]

    def read(self, length: int, offset: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        first, last = offset // PAGE, (offset + length + PAGE - 1) // PAGE
        data = b"".join(bytes(self.page(number)) for number in range(first, last))
        return data[offset - first * PAGE :][:length]

    def write(self, data: bytes, offset: int) -> int:
        at = offset
        while data:
            number, begin = divmod(at, PAGE)
            part, data = data[: PAGE - begin], data[PAGE - begin :]
            page = self.page(number)
            page[begin : begin + len(part)] = part
            self.pages[number] = page
            at += len(part)
        self.size = max(self.size, at)
        return at - offset

    def truncate(self, size: int) -> None:
        for number in [number for number in self.pages if number * PAGE >= size]:
            del self.pages[number]
        number, begin = divmod(size, PAGE)
        if size < self.size and begin:
            page = self.page(number)
            page[begin:] = bytes(PAGE - begin)
            self.pages[number] = page
        self.size = size

    def sync(self) -> None:
        """All of it goes to the disk."""
        self._put(list(self.pages), self.size)
        self.pages.clear()

    def lose_power(self, dice: random.Random | None) -> None:
        """Some pages may have got there, whatever was synced."""
        if dice is not None and self.pages and os.path.exists(self.path):
            lucky = [number for number in self.pages if dice.random() < 0.5]
            self._put(lucky, max(os.stat(self.path).st_size, *(n * PAGE + PAGE for n in lucky), 0))

    def _put(self, numbers: list[int], size: int) -> None:
        with open(self.path, "r+b") as disk:
            for number in numbers:
                os.pwrite(disk.fileno(), bytes(self.pages[number]), number * PAGE)
            os.ftruncate(disk.fileno(), size)


class LossyFs(fuse.Fuse):  # type: ignore[misc]
    """The operations that programs use."""

    def __init__(self, store: str, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.store = store
        self.held: dict[str, Held] = {}

    def _real(self, path: str) -> str:
        return self.store + path

    def _file(self, path: str) -> Held:
        if path not in self.held:
            self.held[path] = Held(self._real(path))
        return self.held[path]

    def getattr(self, path: str) -> os.stat_result:
        found = os.lstat(self._real(path))
        if stat.S_ISREG(found.st_mode) and path in self.held:
            fields = list(found)
            fields[stat.ST_SIZE] = self.held[path].size
            return os.stat_result(fields)
        return found

    def readdir(self, path: str, _offset: int) -> list[fuse.Direntry]:
        return [fuse.Direntry(name) for name in [".", "..", *os.listdir(self._real(path))]]

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._real(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._real(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._real(path))
        self.held.pop(path, None)

    def rename(self, old: str, new: str) -> None:
        os.rename(self._real(old), self._real(new))
        self.held.pop(new, None)
        if old in self.held:
            self.held[new] = self.held.pop(old)
            self.held[new].path = self._real(new)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._real(path), mode)

    def chown(self, path: str, user: int, group: int) -> None:
        os.chown(self._real(path), user, group)

    def utime(self, path: str, times: tuple[float, float]) -> None:
        os.utime(self._real(path), times)

    def mknod(self, path: str, mode: int, _device: int) -> None:
        if not stat.S_ISREG(mode):
            raise OSError(errno.EPERM, "only files")
        os.close(os.open(self._real(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, stat.S_IMODE(mode)))

    def open(self, path: str, flags: int) -> None:
        held = self._file(path)
        if flags & os.O_TRUNC:
            held.truncate(0)

    def read(self, path: str, length: int, offset: int) -> bytes:
        return self._file(path).read(length, offset)

    def write(self, path: str, data: bytes, offset: int) -> int:
        return self._file(path).write(data, offset)

    def truncate(self, path: str, size: int) -> None:
        self._file(path).truncate(size)

    def fsync(self, path: str, _only_data: int) -> None:
        self._file(path).sync()

    def statfs(self) -> os.statvfs_result:
        return os.statvfs(self.store)


def main() -> None:
    """Serve until SIGUSR1."""
    store, mount, *seed = sys.argv[1:]
    system = LossyFs(os.path.abspath(store), dash_s_do="setsingle")
    system.parse(["-f", "-s", "-o", "default_permissions", mount])
    dice = random.Random(int(seed[0])) if seed else None

    def cut(_number: int, _frame: object) -> None:
        for held in system.held.values():
            held.lose_power(dice)
        os._exit(0)

    signal.signal(signal.SIGUSR1, cut)
    system.main()


if __name__ == "__main__":
    main()
