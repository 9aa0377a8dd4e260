"""System calls that a confined program may make, by number: x86_64 and aarch64.

Everything not named here is refused: what the kernel gains tomorrow is refused too.
"""

from __future__ import annotations

from dataclasses import dataclass

#: ``name:x86_64:aarch64``; "-" where the machine has no such call.
ALWAYS = """
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69
pwritev:296:70 close:3:57 fstat:5:80 newfstatat:262:79 statx:332:291 stat:4:- lstat:6:- lseek:8:62
poll:7:- ppoll:271:73 select:23:- pselect6:270:72 mmap:9:222 munmap:11:215 mprotect:10:226
mremap:25:216 madvise:28:233 brk:12:214 msync:26:227 rt_sigaction:13:134 rt_sigprocmask:14:135
rt_sigreturn:15:139 rt_sigsuspend:130:133 rt_sigpending:127:136 rt_sigtimedwait:128:137
sigaltstack:131:132 access:21:- faccessat:269:48 faccessat2:439:439 pipe:22:- pipe2:293:59
dup:32:23 dup2:33:- dup3:292:24 getpid:39:172 gettid:186:178 getppid:110:173 getuid:102:174
geteuid:107:175 getgid:104:176 getegid:108:177 getgroups:115:158 getresuid:118:148
getresgid:120:150 getpgrp:111:- getpgid:121:155 getsid:124:156 uname:63:160 getcwd:79:17
chdir:80:49 fchdir:81:50 readlink:89:- readlinkat:267:78 getdents:78:- getdents64:217:61
fsync:74:82 fdatasync:75:83 ftruncate:77:46 flock:73:32 umask:95:166 gettimeofday:96:169
getrlimit:97:163 setrlimit:160:164 getrusage:98:165 times:100:153 sysinfo:99:179
getpriority:140:141 sched_yield:24:124 sched_getaffinity:204:123 sched_getparam:143:121
sched_getscheduler:145:120 sched_get_priority_max:146:125 sched_get_priority_min:147:126
nanosleep:35:101 clock_gettime:228:113 clock_getres:229:114 clock_nanosleep:230:115
getitimer:36:102 setitimer:38:103 alarm:37:- pause:34:- time:201:- timer_create:222:107
timer_settime:223:110 timer_gettime:224:108 timer_getoverrun:225:109 timer_delete:226:111
futex:202:98 set_robust_list:273:99 get_robust_list:274:100 set_tid_address:218:96
arch_prctl:158:- rseq:334:293 restart_syscall:219:128 exit:60:93 exit_group:231:94
getrandom:318:278 membarrier:324:283 epoll_create:213:- epoll_create1:291:20 epoll_ctl:233:21
epoll_wait:232:- epoll_pwait:281:22 eventfd:284:- eventfd2:290:19 timerfd_create:283:85
timerfd_settime:286:86 timerfd_gettime:287:87 signalfd:282:- signalfd4:289:74 recvfrom:45:207
shutdown:48:210 getsockname:51:204 getpeername:52:205 getsockopt:55:209 getcpu:309:168
statfs:137:43 fstatfs:138:44 sendfile:40:71 fadvise64:221:223 wait4:61:260 waitid:247:95
"""
#: Changes to the file tree by path: only where Landlock keeps them inside the private folder.
TREE_CHANGES = """
unlink:87:- unlinkat:263:35 rename:82:- renameat:264:38 renameat2:316:276 mkdir:83:- mkdirat:258:34
rmdir:84:- symlink:88:- symlinkat:266:36 link:86:- linkat:265:37 creat:85:-
"""
#: Calls that depend on their arguments: argument, what it is compared with.
JUDGED = """
clone:56:220 kill:62:129 tgkill:234:131 prlimit64:302:261 ioctl:16:29 fcntl:72:25 prctl:157:167
socketpair:53:199 sendto:44:206 open:2:- openat:257:56
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor architecture as seccomp sees it.

    Attributes:
        audit_arch: AUDIT_ARCH_* of linux/audit.h.
        column: which number of the tables above is its own.
        foreign_from: call numbers from here on belong to another ABI of the machine (x32).
    """

    audit_arch: int
    column: int
    foreign_from: int | None

    def numbers(self, table: str) -> dict[str, int]:
        """Call name -> number, for the calls that this machine has."""
        rows = (entry.split(":") for entry in table.split())
        return {row[0]: int(row[self.column]) for row in rows if row[self.column] != "-"}


MACHINES = {
    "x86_64": Machine(0xC000003E, 1, 0x40000000),
    "aarch64": Machine(0xC00000B7, 2, None),
}
