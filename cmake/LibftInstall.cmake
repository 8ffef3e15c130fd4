# SPDX-License-Identifier: LGPL-2.1-or-later
# Where everything goes, and the Debian packages that CPack makes of it. Components: library (libft.so
# and its modules), dev, tools, xen (which depends on the libraries of one minor of Xen).
set(CMAKE_INSTALL_LIBDIR lib/${CMAKE_LIBRARY_ARCHITECTURE} CACHE PATH "Where libraries go")
set(LIBFT_MODULE_DIR ${CMAKE_INSTALL_LIBDIR}/libft)
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
# Only what is installed must be built before.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)

# libft_install(): called once, when every target is known.
function(libft_install)
  install(TARGETS ft EXPORT libft-targets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT dev
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  set(modules ft_module_tls ft_module_etcd)
  if(TARGET ft_module_plug)
    list(APPEND modules ft_module_plug)
  endif()
  install(TARGETS ${modules}
    LIBRARY DESTINATION ${LIBFT_MODULE_DIR} COMPONENT library)
  install(FILES capi/libft.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev)
  if(LIBFT_MAN_DIR)
    install(DIRECTORY ${LIBFT_MAN_DIR} DESTINATION ${CMAKE_INSTALL_MANDIR} COMPONENT dev)
  endif()

  set(cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/libft)
  install(EXPORT libft-targets NAMESPACE libft:: DESTINATION ${cmake_dir} COMPONENT dev)
  file(WRITE ${CMAKE_BINARY_DIR}/libft-config.cmake
    "include(\${CMAKE_CURRENT_LIST_DIR}/libft-targets.cmake)\n")
  write_basic_package_version_file(${CMAKE_BINARY_DIR}/libft-config-version.cmake
    COMPATIBILITY SameMajorVersion)
  install(FILES ${CMAKE_BINARY_DIR}/libft-config.cmake
                ${CMAKE_BINARY_DIR}/libft-config-version.cmake
          DESTINATION ${cmake_dir} COMPONENT dev)
  configure_file(cmake/libft.pc.in ${CMAKE_BINARY_DIR}/libft.pc @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/libft.pc
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)

  install(TARGETS ftctl RUNTIME COMPONENT tools)
  install(TARGETS ftd RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR} COMPONENT tools)
  install(TARGETS xl-ft RUNTIME COMPONENT tools)
  if(TARGET ft_xlcfg)
    install(TARGETS ft_xlcfg LIBRARY DESTINATION ${LIBFT_MODULE_DIR} COMPONENT xen)
  endif()
  if(TARGET ft_tools_man)
    set(pages ${CMAKE_BINARY_DIR}/tools/man/man8)
    install(FILES ${pages}/ftctl.8 ${pages}/ftd.8 ${pages}/xl-ft.8
            DESTINATION ${CMAKE_INSTALL_MANDIR}/man8 COMPONENT tools)
    if(TARGET ft_xen)
      install(FILES ${pages}/xen-auto-guard.8 ${pages}/xen-end-duty.8
              DESTINATION ${CMAKE_INSTALL_MANDIR}/man8 COMPONENT xen)
    endif()
  endif()
  install(PROGRAMS tools/xapi/libft DESTINATION ${CMAKE_INSTALL_DATADIR}/libft/xapi COMPONENT tools)
  # Only when it is installed is it known where ftd then is.
  install(CODE "set(PREFIX \${CMAKE_INSTALL_PREFIX})
    configure_file(${CMAKE_SOURCE_DIR}/tools/ftd/ftd.service.in ${CMAKE_BINARY_DIR}/ftd.service @ONLY)
    file(INSTALL ${CMAKE_BINARY_DIR}/ftd.service
         DESTINATION \${CMAKE_INSTALL_PREFIX}/lib/systemd/system)" COMPONENT tools)
  # For the key and the configuration, by their fixed names; every user's ftctl may look for the latter.
  install(CODE "if(CMAKE_INSTALL_PREFIX STREQUAL \"/usr\")
      file(MAKE_DIRECTORY \"\$ENV{DESTDIR}/etc/libft\")
    endif()" COMPONENT tools)
  # Where libft.so and ftctl look for what they preload into QEMU.
  install(TARGETS ft_preload LIBRARY DESTINATION ${LIBFT_MODULE_DIR} COMPONENT library)
  if(TARGET ft_xen)
    install(TARGETS ft_xen LIBRARY DESTINATION ${LIBFT_MODULE_DIR} COMPONENT xen)
    install(PROGRAMS tools/xen/xen-auto-guard tools/xen/xen-end-duty TYPE SBIN COMPONENT xen)
    if(TARGET xen-adopt)
      install(TARGETS xen-adopt RUNTIME DESTINATION ${LIBFT_MODULE_DIR} COMPONENT xen)
    endif()
  endif()
endfunction()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME libft)
set(CPACK_PACKAGE_CONTACT "libft developers <libft@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_COMPONENTS_ALL library dev tools xen)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_BINARY_DIR}/capi)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libft1)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_DEV_PACKAGE_NAME libft-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libft1 (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME libft-tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "libft1 (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_TOOLS_PACKAGE_CONTROL_EXTRA
  "${CMAKE_SOURCE_DIR}/tools/packaging/postinst;${CMAKE_SOURCE_DIR}/tools/packaging/prerm;${CMAKE_SOURCE_DIR}/tools/packaging/postrm")
set(CPACK_DEBIAN_TOOLS_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_XEN_PACKAGE_NAME libft-xen)
set(CPACK_DEBIAN_XEN_PACKAGE_SECTION libs)
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION
  "Fault tolerance for virtual machines: the library
 libft keeps a second host ready to carry on with the same guest. This package has the library with
 its C ABI, and its modules: TLS, and the etcd arbiter.")
set(CPACK_COMPONENT_DEV_DESCRIPTION
  "Fault tolerance for virtual machines: header
 What a toolstack needs to be built with libft: libft.h, and files for pkg-config and CMake.")
set(CPACK_COMPONENT_TOOLS_DESCRIPTION
  "Fault tolerance for virtual machines: ftctl and ftd
 Protects guests of a stock QEMU, and with libft-xen Xen domains, from the command line; ftd keeps
 them protected over restarts of the toolstack and of the host. xl-ft is for those who use xl.")
set(CPACK_COMPONENT_XEN_DESCRIPTION
  "Fault tolerance for virtual machines: Xen
 The module by which libft's tools reach Xen domains, for one minor of Xen.")
include(CPack)
