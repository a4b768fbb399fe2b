/* SPDX-License-Identifier: MIT */
/* LD_PRELOAD: a machine whose fsync lies.  The negative control of the power-cut test: with it, acknowledged work must
 * be lost and the judge must see that; a test that cannot fail shows nothing. */
int fsync(int fd);
int fdatasync(int fd);
int fsync(int fd)
{
    (void)fd;
    return 0;
}
int fdatasync(int fd)
{
    (void)fd;
    return 0;
}
