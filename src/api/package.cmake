# libcoppice, static and shared, and what an installation needs: headers, a pkg-config file and a
# CMake package. `cmake --install build --component library` installs these alone.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(library_objects "")
foreach(module ${library_modules})
    list(APPEND library_objects $<TARGET_OBJECTS:coppice_${module}>)
endforeach()

function(coppice_library target type exported)
    add_library(${target} ${type} ${library_objects})
    foreach(module ${library_modules})
        add_dependencies(${target} coppice_${module})
    endforeach()
    set_target_properties(${target} PROPERTIES OUTPUT_NAME coppice EXPORT_NAME ${exported}
                          VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
                          LINKER_LANGUAGE C)
    target_include_directories(${target} INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src>
                               $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endfunction()

coppice_library(coppice_shared SHARED coppice)
target_link_libraries(coppice_shared PRIVATE PkgConfig::JANSSON PkgConfig::PCRE2
                      PkgConfig::UTF8PROC Threads::Threads m)
if(NOT COPPICE_SANITIZE) # a sanitizer's own functions come with the program
    target_link_options(coppice_shared PRIVATE -Wl,-z,defs)
endif()
coppice_library(coppice_static STATIC coppice_static)
target_link_libraries(coppice_static PUBLIC PkgConfig::JANSSON PkgConfig::PCRE2 PkgConfig::UTF8PROC
                      Threads::Threads m)

install(TARGETS coppice_shared EXPORT coppiceTargets COMPONENT library)
install(TARGETS coppice_static EXPORT coppiceStaticTargets COMPONENT library)
install(FILES ${CMAKE_SOURCE_DIR}/src/coppice.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/coppice COMPONENT library)
install(FILES ${CMAKE_SOURCE_DIR}/src/base/error.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/coppice/base COMPONENT library)

# Both find the prefix from where they lie themselves, so that an installation can be moved.
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/coppice)
file(RELATIVE_PATH pc_to_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" pc_to_prefix ${pc_to_prefix})
configure_file(${CMAKE_CURRENT_LIST_DIR}/coppice.pc.in generated/coppice.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/generated/coppice.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT library)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/coppiceConfig.cmake.in
    ${CMAKE_BINARY_DIR}/generated/coppiceConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/generated/coppiceConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/generated/coppiceConfig.cmake
              ${CMAKE_BINARY_DIR}/generated/coppiceConfigVersion.cmake
        DESTINATION ${package_dir} COMPONENT library)
install(EXPORT coppiceTargets NAMESPACE coppice:: DESTINATION ${package_dir} COMPONENT library)
install(EXPORT coppiceStaticTargets NAMESPACE coppice:: DESTINATION ${package_dir}
        COMPONENT library)
