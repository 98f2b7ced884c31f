/** Why a machine has no sensors of a kind, in words for the operator. */
import type { SourceContext } from '../core/ports.js';

export async function whyNone({ sysfs, proc }: Pick<SourceContext, 'sysfs' | 'proc'>): Promise<string> {
  return (await isVirtualMachine({ sysfs, proc }))
    ? 'this is a virtual machine, and its host passes none through'
    : 'no driver has registered one: its kernel module may not be loaded (see sensors-detect of lm-sensors)';
}

/** x86 says so in its CPU flags; Xen and others have a directory of their own; ARM guests are told by their firmware. */
export async function isVirtualMachine({ sysfs, proc }: Pick<SourceContext, 'sysfs' | 'proc'>): Promise<boolean> {
  if (/^flags\s*:.*\bhypervisor\b/m.test((await proc.text('cpuinfo')) ?? '')) return true;
  if (await sysfs.exists('hypervisor/type')) return true;
  return /QEMU|KVM|VMware|Amazon EC2|VirtualBox/i.test((await sysfs.text('class/dmi/id/sys_vendor')) ?? '');
}
